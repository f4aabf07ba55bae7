"""How much arithmetic a workload is, and how much the machine can do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from bge_rerank_integrations.nn.linear import linear, pack_weights


def needed_flops(config: dict[str, Any], lengths: Sequence[int]) -> float:
    """Multiplications and additions that scoring sequences of these lengths takes, without padding.

    Counted are the matrix products of every layer and attention; of the last layer only keys and values of all tokens
    and the rest of the one token that is read.
    """
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or width // heads
    query, key_value = heads * head_dim, (config.get("num_key_value_heads") or heads) * head_dim
    is_encoder = "type_vocab_size" in config
    feed_forward = (2 if is_encoder else 3) * width * config["intermediate_size"]
    keys_values, others = 2 * width * key_value, 2 * width * query + feed_forward
    tokens, sequences = sum(lengths), len(lengths)
    seen = sum(length * (length if is_encoder else (length + 1) / 2) for length in lengths)
    linear = (layers - 1) * tokens * (keys_values + others) + tokens * keys_values + sequences * others
    attention = 2 * query * ((layers - 1) * seen + tokens)
    return float(2 * (linear + attention))


@torch.inference_mode()
def peak_flops(config: dict[str, Any], device: torch.device, dtype: torch.dtype, tokens: int = 4096) -> float:
    """The best matrix product of this model's shapes that torch has on this machine, in FLOP a second.

    Tried are torch's own linear layer, and the packed one where `nn.linear` would choose it.
    """
    width, wide = config["hidden_size"], config["intermediate_size"]
    best = 0.0
    for inner, outer in ((width, width), (width, wide), (wide, width)):
        x = torch.randn(tokens, inner, device=device).to(dtype)
        layer = torch.nn.Linear(inner, outer, bias=False, device=device, dtype=dtype)
        for packed in (False, True):
            if packed and not pack_weights(layer):
                break
            for _ in range(8):
                _wait(device)
                started = time.perf_counter()
                linear(x, layer.weight)
                _wait(device)
                best = max(best, 2.0 * tokens * inner * outer / (time.perf_counter() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
