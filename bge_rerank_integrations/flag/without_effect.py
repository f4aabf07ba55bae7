"""Arguments that FlagEmbedding accepts without using them, and what to use instead."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

INSTEAD = {
    "passage_max_length": "use max_length, which limits query and passage together",
    "device": "use devices",
    "peft_path": "give the adapter's folder as model_name_or_path: it is merged into its base on load",
    "use_bf16": "use use_fp16, or load_scorer with dtype='bfloat16'",
    "prompt": "only decoders have one",
    "cutoff_layers": "use LayerWiseFlagLLMReranker or LightWeightFlagLLMReranker",
    "compress_layer": "use compress_layers of LightWeightFlagLLMReranker",
    "compress_layers": "use LightWeightFlagLLMReranker",
    "compress_ratio": "use LightWeightFlagLLMReranker",
    "use_dataloader": "batches are planned by tokens",
    "num_workers": "batches are planned by tokens",
    "pooling_method": "only embedding models have one",
    "normalize_embeddings": "use normalize",
    "truncate_dim": "only embedding models have one",
}
"""By name, what a warning says. The call takes these names alone, the constructor any, as FlagEmbedding's does."""


def warn(where: str, arguments: Mapping[str, Any], stacklevel: int) -> None:
    """Say in one warning which arguments have no effect; those that ask for nothing need no word.

    Args:
        where: the class or method that was given them.
        stacklevel: of the caller's caller's ... frame that gave them, as `warnings.warn` counts.
    """
    asked = {name: value for name, value in arguments.items() if value is not None and value is not False}
    if asked:
        listed = "; ".join(
            f"{name}={value!r} ({INSTEAD.get(name, 'this class has no such argument')})"
            for name, value in asked.items()
        )
        warnings.warn(f"{where}: no effect has {listed}", UserWarning, stacklevel=stacklevel + 1)


def check_call(arguments: Mapping[str, Any]) -> None:
    """Refuse what no class of FlagEmbedding has a name for, a misspelt option most likely."""
    for name in arguments:
        if name not in INSTEAD:
            raise TypeError(f"compute_score() got an unexpected keyword argument {name!r}")
