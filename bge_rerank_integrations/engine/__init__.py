"""Token sequences in, rows of scores out: the queue, the batches, the cache of scores.

Nothing here knows a model family, a checkpoint or torch: the object that runs a batch is given as a `work.Runner`.
"""
