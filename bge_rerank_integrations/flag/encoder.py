"""FlagEmbedding's class for encoders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bge_rerank_integrations.flag.base import Devices, Reranker
from bge_rerank_integrations.flag.pairs import SentencePairs

if TYPE_CHECKING:
    import numpy


class FlagReranker(Reranker):
    """The encoder family: bge-reranker-base, -large, -v2-m3."""

    family = "encoder"

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        use_fp16: bool = False,
        query_instruction_for_rerank: str | None = None,
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = None,
        passage_instruction_format: str = "{}{}",
        trust_remote_code: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        devices: Devices = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dict(locals()))

    def compute_score(
        self,
        sentence_pairs: SentencePairs,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
        **kwargs: Any,
    ) -> list[float] | numpy.ndarray:
        """Score one pair or many; one score for each pair, mapped into 0 to 1 if `normalize`.

        If an argument is None, the attribute with its name is used. Several `target_devices` give a numpy array.
        """
        scores: list[float] | numpy.ndarray = self._compute(dict(locals()))
        return scores
