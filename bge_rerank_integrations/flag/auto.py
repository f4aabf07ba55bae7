"""FlagEmbedding's class that chooses one of the four."""

from __future__ import annotations

import os
from typing import Any

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.flag.base import Reranker
from bge_rerank_integrations.flag.decoders import (
    FlagLLMReranker,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
)
from bge_rerank_integrations.flag.encoder import FlagReranker
from bge_rerank_integrations.loading import resolve
from bge_rerank_integrations.options import ModelSource, Placement

MODEL_CLASSES: dict[str, type[Reranker]] = {
    "encoder-only-base": FlagReranker,
    "decoder-only-base": FlagLLMReranker,
    "decoder-only-layerwise": LayerWiseFlagLLMReranker,
    "decoder-only-lightweight": LightWeightFlagLLMReranker,
}
"""FlagEmbedding's names of the four classes."""


class FlagAutoReranker:
    """Chooses the class for a checkpoint by its contents, not by its name."""

    def __init__(self) -> None:
        raise TypeError("use FlagAutoReranker.from_finetuned(model_name_or_path)")

    @staticmethod
    def from_finetuned(
        model_name_or_path: str | os.PathLike[str],
        model_class: str | None = None,
        use_fp16: bool = False,
        trust_remote_code: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a reranker. The other arguments are passed to the chosen class.

        Args:
            model_class: one of `MODEL_CLASSES`; None: by the checkpoint's family.

        Returns:
            A `FlagReranker`, `FlagLLMReranker`, `LayerWiseFlagLLMReranker` or `LightWeightFlagLLMReranker`.
        """
        if model_class is None:
            source = ModelSource(model_name_or_path, cache_dir=kwargs.get("cache_dir"))
            family = resolve(source, Placement("cpu")).family.name
            (found,) = (kind for kind in MODEL_CLASSES.values() if kind.family == family)
        else:
            name = getattr(model_class, "value", model_class)  # FlagEmbedding also takes its own enumeration
            if name not in MODEL_CLASSES:
                raise OptionError(f"model_class={model_class!r}: use one of {', '.join(MODEL_CLASSES)}")
            found = MODEL_CLASSES[name]
        return found(model_name_or_path, use_fp16=use_fp16, **kwargs)  # type: ignore[call-arg, arg-type]
