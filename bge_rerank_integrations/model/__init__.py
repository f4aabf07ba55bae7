"""From the name of a checkpoint to a replica that runs token sequences.

name -> folder (`hub`) -> `checkpoint` -> family (`families`) -> `weights` into layers (`nn`) -> `replica`.
On the way of a query: texts -> token ids (`inputs`) -> one tensor (`packing`) -> forward pass (`families`, `nn`).
"""
