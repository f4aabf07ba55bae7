"""Token sequences in, rows of scores out: what waits, what runs together, what is remembered.

Nothing here knows a model family, a checkpoint or torch: whatever runs a batch is given as a `work.Runner`.
"""
