"""How a scorer scores: every option in one frozen place, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from bge_rerank_integrations.errors import OptionError

Scale = Literal["logit", "sigmoid"]
HeadIndex = Literal["position", "layer"]
FamilyName = Literal["encoder", "llm", "layerwise", "lightweight"]
DType = Literal["auto", "float32", "float16", "bfloat16", "int8"]
COMPRESS_RATIOS = (1, 2, 4, 8)


@dataclass(frozen=True)
class ScoringOptions:
    """What scores depend on beside the weights. `Scorer.with_options` changes any of them.

    The first five hold for every family; the others only for those that have them, and are refused elsewhere.
    """

    max_length: int = 512
    """Tokens kept of query and passage together; decoders: plus as many as the prompt has (see `inputs`)."""
    query_max_length: int | None = None
    """Tokens kept of the query; None: three quarters of `max_length`."""
    scale: Scale = "logit"
    """"logit": the model's own number, unbounded; "sigmoid": that number mapped into 0 to 1, in the same order."""
    query_instruction: str | None = None
    """Text put before each query; None: the family's own (decoders: "A: ")."""
    passage_instruction: str | None = None
    """Text put before each passage; None: the family's own (decoders: "B: ")."""
    prompt: str | None = None
    """Decoders: the question put behind each pair, as text or by a name of `inputs.PROMPTS`; None: the family's own."""
    cutoff_layer: int | None = None
    """Layerwise, lightweight: how many layers to run; None: all."""
    compress_ratio: int = 1
    """Lightweight: how many neighbouring passage tokens become one, 1, 2, 4 or 8; 1: none."""
    compress_layers: Sequence[int] = (8,)
    """Lightweight: before which layers passage tokens are merged, counted from 0."""
    head_index: HeadIndex = "position"
    """Lightweight: which head scores a cutoff. "position", as the published scores were made: the first head for the
    first cutoff that is asked for, whatever its layer; "layer": the head trained on that layer."""
    attention_softcap: bool = False
    """Lightweight: apply the soft cap on attention that config.json names; the published scores were made without."""

    def __post_init__(self) -> None:
        _positive("max_length", self.max_length)
        if self.query_max_length is not None:
            _positive("query_max_length", self.query_max_length)
        if self.scale not in ("logit", "sigmoid"):
            raise OptionError(f"scale={self.scale!r}: use 'logit' or 'sigmoid'")
        for name in ("query_instruction", "passage_instruction", "prompt"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise OptionError(f"{name}={value!r}: use a string or None")
        if self.cutoff_layer is not None:
            _positive("cutoff_layer", self.cutoff_layer)
        if self.compress_ratio not in COMPRESS_RATIOS or isinstance(self.compress_ratio, bool):
            raise OptionError(f"compress_ratio={self.compress_ratio!r}: use one of {COMPRESS_RATIOS}")
        object.__setattr__(self, "compress_layers", _layers(self.compress_layers))
        if self.head_index not in ("position", "layer"):
            raise OptionError(f"head_index={self.head_index!r}: use 'position' or 'layer'")
        if not isinstance(self.attention_softcap, bool):
            raise OptionError(f"attention_softcap={self.attention_softcap!r}: use True or False")

    def changed(self, **changes: Any) -> ScoringOptions:
        """A copy with some options changed; an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise OptionError(f"unknown option {name!r}: use one of {', '.join(known)}")
        return replace(self, **changes)

    def set_beside(self, allowed: frozenset[str]) -> dict[str, Any]:
        """The family-specific options outside `allowed` that differ from their default, with their values."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in FAMILY_OPTIONS - allowed and getattr(self, field.name) != field.default
        }


FAMILY_OPTIONS = frozenset(
    {"prompt", "cutoff_layer", "compress_ratio", "compress_layers", "head_index", "attention_softcap"}
)


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name}={value!r}: use a whole number of 1 or more")


def _layers(value: object) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value,)
    if (
        not isinstance(value, Sequence)
        or isinstance(value, (str, bytes))
        or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)
    ):
        raise OptionError(f"compress_layers={value!r}: use layer numbers of 0 or more, such as (8,)")
    return tuple(sorted(set(value)))
