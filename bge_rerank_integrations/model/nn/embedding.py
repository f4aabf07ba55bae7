"""A table of vectors, one for each token, that is filled later."""

from __future__ import annotations

import torch
from torch import nn


def embedding(rows: int, width: int) -> nn.Embedding:
    """An `nn.Embedding` with whatever its memory holds.

    Torch's constructor draws random numbers. On the device "meta" this imports torch._dynamo, which takes most of a
    second and needs a temporary directory that it can write to.
    """
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))
