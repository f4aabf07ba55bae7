"""`bge-rerank bench --roofline CARD`: what to expect of a GPU, estimated without one.

The forward pass is traced (`trace`), each of its kernels is priced (`price`) with what a card can do at most (`cards`),
and a workload is the sum of its batches (`estimate`). Nothing here was measured.
"""
