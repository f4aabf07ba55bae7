"""What a model needs of a GPU's memory: said before its weights are loaded, and how large its batches may be."""

from __future__ import annotations

import torch
from torch import nn

from bge_rerank_integrations.errors import OutOfMemory
from bge_rerank_integrations.model.families.base import Dimensions, Family, RerankModel

CUDA_TOKEN_BUDGET = 32768
"""The most tokens in a batch; fewer if there is little memory."""
FEWEST_TOKENS = 2048
"""Tokens of the smallest batches, for which there has to be room."""
GB = 1e9


def check_room(model: RerankModel, family: Family, device: torch.device, free: int) -> None:
    """Refuse a model that does not fit, before a byte of it is read.

    Args:
        model: without memory yet, in the dtype that it is to have.
        free: bytes on the device.

    Raises:
        OutOfMemory: says how much is needed and what needs less.
    """
    weights = weight_bytes(model)
    dtype = next(model.parameters()).dtype
    needed = weights + FEWEST_TOKENS * token_bytes(family.dimensions, dtype.itemsize)
    if needed <= free:
        return
    less = [f"dtype='bfloat16', for {needed / 2 / GB:.1f} GB"] if dtype.itemsize == 4 else []
    less += ["a lower cutoff_layer, which loads fewer layers"] if family.allowed_cutoffs else []
    raise OutOfMemory(
        f"{family.checkpoint.folder} needs {needed / GB:.1f} GB in {str(dtype).removeprefix('torch.')}, of which "
        f"{weights / GB:.1f} GB are weights, and {free / GB:.1f} GB are free on {device}: choose "
        f"{', or '.join([*less, 'another device with devices=...'])}"
    )


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights, whether they have memory or not."""
    return sum(parameter.nbytes for parameter in model.parameters())


def affordable_tokens(free: int, dimensions: Dimensions, itemsize: int) -> int:
    """How many tokens have activations that fill half of a GPU's free memory, `FEWEST_TOKENS` to `CUDA_TOKEN_BUDGET`.

    If it is too many, the engine halves the batch.

    Args:
        free: bytes, once the weights are loaded.
        itemsize: bytes for each number.
    """
    return max(FEWEST_TOKENS, min(CUDA_TOKEN_BUDGET, free // 2 // token_bytes(dimensions, itemsize)))


def token_bytes(dimensions: Dimensions, itemsize: int) -> int:
    """Bytes of a token's activations in a layer.

    There are about eight states of `width` (the hidden state, its norm, queries, keys, values, the output of attention,
    and copies) and three of `feed_forward`.
    """
    return itemsize * (8 * dimensions.width + 3 * dimensions.feed_forward)
