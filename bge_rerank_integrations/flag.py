"""FlagEmbedding's interface over `Scorer`: change the import and keep the rest of the script.

Classes, arguments and defaults are those of FlagEmbedding 1.4.2. What differs, each on purpose: `compute_score`
returns `[]` for no pairs, which raises there; `devices=None` takes one device, not all; an impossible cutoff layer is
an error, not dropped; unknown arguments are errors. `trust_remote_code` is accepted and never acted on, and so are
`batch_size`, `use_dataloader` and `num_workers`: batches are planned by tokens.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.loading import load_scorer, resolve
from bge_rerank_integrations.model.devices import choose_devices
from bge_rerank_integrations.options import ModelSource, Placement
from bge_rerank_integrations.ranking import Pair, checked_pairs
from bge_rerank_integrations.scorer import Scorer

Devices = str | int | Sequence[str] | Sequence[int] | None
SentencePairs = Pair | Sequence[Pair]


class _Instructions(NamedTuple):
    """Texts put before queries and passages, and the formats that join them; None: nothing is put."""

    query: str | None
    query_format: str
    passage: str | None
    passage_format: str

    def put_before(self, pair: Pair) -> Pair:
        query, passage = pair
        return (
            query if self.query is None else self.query_format.format(self.query, query),
            passage if self.passage is None else self.passage_format.format(self.passage, passage),
        )


class _Reranker:
    """What the four classes share: instructions, the defaults of a call, and the scorer under it."""

    family: str

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        dtype: str,
        instructions: _Instructions,
        cache_dir: str | os.PathLike[str] | None,
        devices: Devices,
        query_max_length: int | None,
        max_length: int,
        normalize: bool,
        **options: Any,
    ) -> None:
        names = _device_names(devices)
        on_gpu = all(device.type == "cuda" for device in choose_devices(names))
        self.instructions = instructions
        self.scorer: Scorer = load_scorer(
            model_name_or_path,
            family=self.family,
            cache_dir=cache_dir,
            devices=names,
            dtype=dtype if on_gpu else "float32",
            query_instruction="",
            passage_instruction="",
            query_max_length=query_max_length,
            max_length=max_length,
            scale=_scale(normalize),
            **options,
        )

    def stop_self_pool(self) -> None:
        """Free the model. There is no pool of processes here; the name is FlagEmbedding's."""
        self.scorer.close()

    def _pairs(self, sentence_pairs: SentencePairs) -> list[Pair]:
        if len(sentence_pairs) == 2 and all(isinstance(part, str) for part in sentence_pairs):
            sentence_pairs = [(sentence_pairs[0], sentence_pairs[1])]  # type: ignore[list-item]
        return [self.instructions.put_before(pair) for pair in checked_pairs(sentence_pairs)]  # type: ignore[arg-type]

    def _scorer(self, normalize: bool | None, max_length: int | None, **options: Any) -> Scorer:
        """The scorer with what this call changes; None keeps what the constructor set."""
        changes = {name: value for name, value in options.items() if value is not None}
        if max_length is not None:
            changes["max_length"] = max_length
        if normalize is not None:
            changes["scale"] = _scale(normalize)
        return self.scorer.with_options(**changes) if changes else self.scorer


class FlagReranker(_Reranker):
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
    ) -> None:
        instructions = _Instructions(
            query_instruction_for_rerank, query_instruction_format,
            passage_instruction_for_rerank, passage_instruction_format
        )  # fmt: skip
        dtype = "float16" if use_fp16 else "float32"
        super().__init__(
            model_name_or_path, dtype, instructions, cache_dir, devices, query_max_length, max_length, normalize
        )  # fmt: skip

    def compute_score(
        self,
        sentence_pairs: SentencePairs,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
    ) -> list[float]:
        """Score one pair or many; one score a pair, mapped into 0 to 1 if `normalize`."""
        scorer = self._scorer(normalize, max_length, query_max_length=query_max_length)
        return scorer.score_pairs(self._pairs(sentence_pairs))


class FlagLLMReranker(_Reranker):
    """The llm family: bge-reranker-v2-gemma."""

    family = "llm"

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        devices: Devices = None,
        prompt: str | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
    ) -> None:
        _refuse_adapter(peft_path)
        instructions = _Instructions(
            query_instruction_for_rerank, query_instruction_format,
            passage_instruction_for_rerank, passage_instruction_format
        )  # fmt: skip
        dtype = _half(use_fp16, use_bf16)
        super().__init__(
            model_name_or_path, dtype, instructions, cache_dir, devices, query_max_length, max_length, normalize,
            prompt=prompt
        )  # fmt: skip

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
    ) -> list[float]:
        """Score one pair or many; one score a pair, mapped into 0 to 1 if `normalize`."""
        scorer = self._scorer(normalize, max_length, query_max_length=query_max_length, prompt=prompt)
        return scorer.score_pairs(self._pairs(sentence_pairs))


class LayerWiseFlagLLMReranker(_Reranker):
    """The layerwise family: bge-reranker-v2-minicpm-layerwise."""

    family = "layerwise"

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        devices: Devices = None,
        cutoff_layers: Sequence[int] | None = None,
        prompt: str | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
    ) -> None:
        _refuse_adapter(peft_path)
        self.cutoff_layers = cutoff_layers
        instructions = _Instructions(
            query_instruction_for_rerank, query_instruction_format,
            passage_instruction_for_rerank, passage_instruction_format
        )  # fmt: skip
        dtype = _half_or_warn(use_fp16, use_bf16)
        super().__init__(
            model_name_or_path, dtype, instructions, cache_dir, devices, query_max_length, max_length, normalize,
            prompt=prompt
        )  # fmt: skip

    def compute_score(
        self,
        sentence_pairs: SentencePairs,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        cutoff_layers: Sequence[int] | None = None,
        prompt: str | None = None,
        normalize: bool | None = None,
        use_dataloader: bool = False,
        num_workers: int | None = None,
    ) -> list[float] | list[list[float]]:
        """Score one pair or many: one score a pair, or a list of them for each of several `cutoff_layers`."""
        scorer = self._scorer(normalize, max_length, query_max_length=query_max_length, prompt=prompt)
        return _by_cutoff(scorer, self._pairs(sentence_pairs), cutoff_layers or self.cutoff_layers)


class LightWeightFlagLLMReranker(_Reranker):
    """The lightweight family: bge-reranker-v2.5-gemma2-lightweight."""

    family = "lightweight"

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        peft_path: str | None = None,
        use_fp16: bool = False,
        use_bf16: bool = False,
        query_instruction_for_rerank: str = "A: ",
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str = "B: ",
        passage_instruction_format: str = "{}{}",
        cache_dir: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
        devices: Devices = None,
        cutoff_layers: Sequence[int] | None = None,
        compress_layers: Sequence[int] = (8,),
        compress_ratio: int = 1,
        prompt: str | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
    ) -> None:
        _refuse_adapter(peft_path)
        self.cutoff_layers = cutoff_layers
        instructions = _Instructions(
            query_instruction_for_rerank, query_instruction_format,
            passage_instruction_for_rerank, passage_instruction_format
        )  # fmt: skip
        dtype = _half_or_warn(use_fp16, use_bf16)
        super().__init__(
            model_name_or_path, dtype, instructions, cache_dir, devices, query_max_length, max_length, normalize,
            prompt=prompt, compress_layers=compress_layers, compress_ratio=compress_ratio
        )  # fmt: skip

    def compute_score(
        self,
        sentence_pairs: SentencePairs,
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        cutoff_layers: Sequence[int] | None = None,
        compress_layer: Sequence[int] | None = None,
        compress_layers: Sequence[int] | None = None,
        compress_ratio: int | None = None,
        prompt: str | None = None,
        normalize: bool | None = None,
    ) -> list[float] | list[list[float]]:
        """Score one pair or many: one score a pair, or a list of them for each of several `cutoff_layers`.

        `compress_layer` is FlagEmbedding's older name of `compress_layers`, and goes before it.
        """
        scorer = self._scorer(
            normalize,
            max_length,
            query_max_length=query_max_length,
            prompt=prompt,
            compress_layers=compress_layers if compress_layer is None else compress_layer,
            compress_ratio=compress_ratio,
        )
        return _by_cutoff(scorer, self._pairs(sentence_pairs), cutoff_layers or self.cutoff_layers)


MODEL_CLASSES: dict[str, type[_Reranker]] = {
    "encoder-only-base": FlagReranker,
    "decoder-only-base": FlagLLMReranker,
    "decoder-only-layerwise": LayerWiseFlagLLMReranker,
    "decoder-only-lightweight": LightWeightFlagLLMReranker,
}
"""FlagEmbedding's names of the four classes."""


class FlagAutoReranker:
    """Picks the class for a checkpoint, from what is in it rather than from its name."""

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
        """Load a reranker; the other arguments go to the class that is picked.

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
        return found(model_name_or_path, use_fp16=use_fp16, **kwargs)


def _by_cutoff(
    scorer: Scorer, pairs: list[Pair], cutoff_layers: Sequence[int] | None
) -> list[float] | list[list[float]]:
    if cutoff_layers is None:
        return scorer.score_pairs(pairs)
    layers = [cutoff_layers] if isinstance(cutoff_layers, int) else list(cutoff_layers)
    by_layer = scorer.score_layers(pairs, layers)
    return [by_layer[layer] for layer in layers] if len(layers) > 1 else by_layer[layers[0]]


def _scale(normalize: bool) -> Any:
    return "sigmoid" if normalize else "logit"


def _half(use_fp16: bool, use_bf16: bool) -> str:
    return "bfloat16" if use_bf16 else "float16" if use_fp16 else "float32"


def _half_or_warn(use_fp16: bool, use_bf16: bool) -> str:
    if not use_fp16 and not use_bf16:
        warnings.warn(
            "neither use_fp16 nor use_bf16 is set: float16 is used on a GPU, as FlagEmbedding does for this family",
            UserWarning,
            stacklevel=3,
        )
    return _half(not use_bf16, use_bf16)


def _refuse_adapter(peft_path: str | None) -> None:
    if peft_path is not None:
        raise CheckpointError(
            f"peft_path={peft_path!r}: merge the adapter first with peft "
            "(PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(new_folder)) "
            "and give the new folder"
        )


def _device_names(devices: Devices) -> list[str] | None:
    if devices is None:
        return None
    several = [devices] if isinstance(devices, (str, int)) else devices
    return [f"cuda:{device}" if isinstance(device, int) else device for device in several]
