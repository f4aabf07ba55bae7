"""The rotary positions that config.json names, under `rope_theta` and `rope_scaling`, or in newer files all together
under `rope_parameters`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bge_rerank_integrations.model.checkpoint import CheckpointConfig, Positive
from bge_rerank_integrations.model.nn.rotary import Linear, Llama3, Rope, Yarn


class Rotation(CheckpointConfig):
    """One set of numbers. Which of them count follows from `kind`."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Positive
    partial_rotary_factor: float = 1.0
    factor: Positive | None = None
    original_max_position_embeddings: Positive | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    attention_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    @property
    def kind(self) -> str:
        return self.rope_type or self.type or "default"

    def rope(self, positions: int) -> Rope:
        """
        Args:
            positions: as many as config.json gives the model.

        Raises:
            ValueError: they are of a kind that is not known, or a number is missing.
        """
        if self.kind not in _SCALINGS or self.partial_rotary_factor != 1:
            raise ValueError(
                f"rope_parameters of type {self.kind!r} with partial_rotary_factor {self.partial_rotary_factor}: only "
                f"the types {', '.join(_SCALINGS)} with partial_rotary_factor 1 are known"
            )
        return Rope(self.rope_theta, _SCALINGS[self.kind](self, positions))


def _need(value: float | None, name: str, kind: str) -> float:
    if value is None:
        raise ValueError(f"rope_parameters of type {kind!r} without {name}")
    return value


def _plain(numbers: Rotation, positions: int) -> None:
    return None


def _linear(numbers: Rotation, positions: int) -> Linear:
    return Linear(_need(numbers.factor, "factor", "linear"))


def _llama3(numbers: Rotation, positions: int) -> Llama3:
    low = _need(numbers.low_freq_factor, "low_freq_factor", "llama3")
    high = _need(numbers.high_freq_factor, "high_freq_factor", "llama3")
    if low >= high:
        raise ValueError(f"rope_parameters of type 'llama3': low_freq_factor {low} is not below {high}")
    trained = numbers.original_max_position_embeddings or positions
    return Llama3(_need(numbers.factor, "factor", "llama3"), low, high, trained)


def _yarn(numbers: Rotation, positions: int) -> Yarn:
    trained = numbers.original_max_position_embeddings or positions
    factor = numbers.factor or positions / trained
    amplitude = numbers.attention_factor
    if amplitude is None and numbers.mscale and numbers.mscale_all_dim:
        amplitude = _growth(factor, numbers.mscale) / _growth(factor, numbers.mscale_all_dim)
    return Yarn(
        factor,
        trained,
        fast=numbers.beta_fast or 32.0,
        slow=numbers.beta_slow or 1.0,
        amplitude=_growth(factor, 1.0) if amplitude is None else amplitude,
        whole=numbers.truncate,
    )


def _growth(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


_SCALINGS = {"default": _plain, "linear": _linear, "llama3": _llama3, "yarn": _yarn}


def read_rotations(given: Mapping[str, Any], thetas: Mapping[str, float]) -> dict[str, Rotation]:
    """The rotary positions of each kind of layer.

    Args:
        given: the numbers, or the numbers of each kind of layer by its name.
        thetas: for each kind of layer, the `rope_theta` that counts where the numbers have none.

    Raises:
        ValueError: they are neither one set of numbers nor one for each kind.
    """
    sets = {name: value for name, value in given.items() if isinstance(value, dict)}
    if (sets and len(sets) < len(given)) or any(isinstance(v, dict) for one in sets.values() for v in one.values()):
        raise ValueError(f"rope_parameters {given!r} are neither one set of numbers nor one for each kind of layer")
    by_kind: dict[str, Mapping[str, Any]] = {**sets} if sets else dict.fromkeys(thetas, given)
    fallback = next(iter(thetas.values()))
    return {
        kind: Rotation.model_validate({"rope_theta": thetas.get(kind, fallback)} | dict(numbers))
        for kind, numbers in by_kind.items()
    }
