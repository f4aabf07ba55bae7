"""FlagEmbedding's three classes for decoders, and their one base."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.flag.base import Devices, LayerScores, Reranker
from bge_rerank_integrations.flag.pairs import SentencePairs
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.scorer import Scorer

if TYPE_CHECKING:
    import numpy

Layers = int | Sequence[int] | None


class DecoderReranker(Reranker):
    """A class with a prompt, two half precisions and an adapter."""

    use_bf16: bool
    """bfloat16 on a GPU, if not `use_fp16`; elsewhere everything is float32."""
    prompt: str | None

    def _options(self, call: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._options(call), "prompt": call["prompt"]}

    def _half(self) -> str:
        return "float16" if self.use_fp16 else "bfloat16" if self.use_bf16 else "float32"

    def _checkpoint(self, given: Mapping[str, Any]) -> str | os.PathLike[str]:
        return with_adapter(given["model_name_or_path"], given["peft_path"])


class CutoffReranker(DecoderReranker):
    """A class whose scores can be read after any of several layers."""

    cutoff_layers: Layers
    """After which layers to score; None: after the last."""

    def _score(self, pairs: list[Pair], call: Mapping[str, Any], devices: Sequence[str]) -> LayerScores:
        scorer = self._ready(call, devices)
        layers = possible_cutoffs(call["cutoff_layers"], scorer.cutoff_layers)
        by_layer = self._compressed(scorer, call, layers[-1]).score_layers(pairs, layers)
        return [by_layer[layer] for layer in layers] if len(layers) > 1 else by_layer[layers[0]]

    def _compressed(self, scorer: Scorer, call: Mapping[str, Any], depth: int) -> Scorer:
        """The scorer with the compression that the call asks for; `depth` is the last layer that is run."""
        return scorer


class FlagLLMReranker(DecoderReranker):
    """The llm family: bge-reranker-v2-gemma."""

    family = "llm"

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str | None = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        devices: Devices = None,
        prompt: str | None = None,
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
        prompt: str | None = None,
        normalize: bool | None = None,
        use_dataloader: bool = False,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> list[float] | numpy.ndarray:
        """Score one pair or many; one score for each pair, mapped into 0 to 1 if `normalize`.

        If an argument is None, the attribute with its name is used. Several `target_devices` give a numpy array.
        """
        scores: list[float] | numpy.ndarray = self._compute(dict(locals()))
        return scores


class LayerWiseFlagLLMReranker(CutoffReranker):
    """The layerwise family: bge-reranker-v2-minicpm-layerwise."""

    family = "layerwise"

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str | None = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        devices: Devices = None,
        cutoff_layers: Layers = None,
        prompt: str | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        if not use_fp16 and not use_bf16:
            warnings.warn(
                "neither use_fp16 nor use_bf16 is set: float16 is used on a GPU, as FlagEmbedding does for this family",
                UserWarning,
                stacklevel=2,
            )
            use_fp16 = True
        super().__init__(dict(locals()))

    def compute_score(
        self,
        sentence_pairs: SentencePairs,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        cutoff_layers: Layers = None,
        prompt: str | None = None,
        normalize: bool | None = None,
        use_dataloader: bool = False,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> list[float] | list[list[float]] | numpy.ndarray:
        """Score one pair or many: one score for each pair; for several `cutoff_layers`, a list for each, ascending.

        If an argument is None, the attribute with its name is used. Several `target_devices` give a numpy array.
        """
        scores: list[float] | list[list[float]] | numpy.ndarray = self._compute(dict(locals()))
        return scores


class LightWeightFlagLLMReranker(CutoffReranker):
    """The lightweight family: bge-reranker-v2.5-gemma2-lightweight."""

    family = "lightweight"

    compress_layers: Layers
    """Before which layers passage tokens are merged, counted from 0; None: before none."""
    compress_ratio: int | None
    """How many tokens become one: 1, 2, 4 or 8; 1 or None: no merging."""

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str | None = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        devices: Devices = None,
        cutoff_layers: Layers = None,
        compress_layers: Layers = (8,),
        compress_ratio: int | None = 1,
        prompt: str | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        if not use_fp16 and not use_bf16:
            warnings.warn(
                "neither use_fp16 nor use_bf16 is set: float32 is used, as FlagEmbedding does for this family "
                "(its own warning says something else); on a GPU, set one of them",
                UserWarning,
                stacklevel=2,
            )
        super().__init__(dict(locals()))

    def compute_score(
        self,
        sentence_pairs: SentencePairs,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        cutoff_layers: Layers = None,
        compress_layer: Layers = None,
        compress_layers: Layers = None,
        compress_ratio: int | None = None,
        prompt: str | None = None,
        normalize: bool | None = None,
        **kwargs: Any,
    ) -> list[float] | list[list[float]] | numpy.ndarray:
        """Score one pair or many: one score for each pair; for several `cutoff_layers`, a list for each, ascending.

        If an argument is None, the attribute with its name is used. Several `target_devices` give a numpy array.
        `compress_layer` is FlagEmbedding's older name of `compress_layers`. If both are given, it is used.
        """
        scores: list[float] | list[list[float]] | numpy.ndarray = self._compute(dict(locals()))
        return scores

    def _call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        older = arguments["compress_layer"]
        return super()._call(arguments if older is None else {**arguments, "compress_layers": older})

    def _compressed(self, scorer: Scorer, call: Mapping[str, Any], depth: int) -> Scorer:
        asked, ratio = call["compress_layers"], call["compress_ratio"]
        layers = [asked] if isinstance(asked, int) else list(asked or ())
        reached = [layer for layer in layers if 0 < layer < depth]
        if ratio in (None, 1):
            return scorer
        deepest = scorer.cutoff_layers[-1]
        if missing := [layer for layer in layers if not 0 < layer < deepest]:
            warnings.warn(
                f"compress_layers={asked!r}: {', '.join(map(str, missing))} has no effect, this model can merge before "
                f"layers 1 to {deepest - 1}",
                UserWarning,
                stacklevel=5,
            )
        if not reached:  # nothing is merged, as in FlagEmbedding
            return scorer
        return scorer.with_options(compress_ratio=ratio, compress_layers=reached)


def with_adapter(model: str | os.PathLike[str], peft_path: str | None) -> str | os.PathLike[str]:
    """What to load for a model with a LoRA adapter."""
    if not peft_path:
        return model
    raise CheckpointError(
        f"peft_path={peft_path!r}: give that folder as model_name_or_path, without peft_path: the adapter is merged on "
        "load into the base that its adapter_config.json names. For another base, merge it with peft first "
        "(PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(new_folder)) and give the new "
        "folder"
    )


def possible_cutoffs(asked: Layers, allowed: Sequence[int]) -> list[int]:
    """The layers to score after, each once and ascending: FlagEmbedding returns scores in that order.

    Layers that the model cannot score after are left out, with a warning; if none is left, that is an error.
    """
    if asked is None:
        return [allowed[-1]]
    layers = sorted({asked} if isinstance(asked, int) else {int(layer) for layer in asked})
    kept = [layer for layer in layers if layer in allowed]
    possible = ", ".join(map(str, allowed))
    if not kept:
        raise OptionError(f"cutoff_layers={asked!r}: this model can score after layers {possible}")
    if len(kept) < len(layers):
        left_out = ", ".join(str(layer) for layer in layers if layer not in kept)
        warnings.warn(
            f"cutoff_layers={asked!r}: {left_out} left out, this model can score after layers {possible}",
            UserWarning,
            stacklevel=5,
        )
    return kept
