"""The rows of an evaluation: one for each configuration, and one for the first stage alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bge_rerank_integrations.evaluation.metrics import Estimate

QUALITY = "nDCG@10"
"""The main measure."""


@dataclass(frozen=True)
class Seconds:
    """The time for one query with all its candidates."""

    median: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Row:
    """One configuration, or the first stage alone."""

    name: str
    metrics: dict[str, Estimate]
    behind_best: Estimate
    """nDCG@10 of the best row minus that of this row, for each query."""
    run_file: str
    settings: dict[str, Any] = field(default_factory=dict)
    """The model and its options; empty for the first stage."""
    chosen_weights: tuple[float, ...] = ()
    """With fusion_weight=chosen: the weight chosen on each half of the queries, and used on the other."""
    difference: dict[str, Estimate] = field(default_factory=dict)
    """This row minus the first stage, for each query; empty for the first stage."""
    seconds: Seconds | None = None
    """None for the first stage, whose time every row needs too."""
    extra_bytes: int | None = None
    tied_queries: int = 0
    """Queries whose candidates all got the same score, and keep the order of the first stage."""
    on_front: bool = False
    """Whether no other row is at least as good in nDCG@10 and in time, and better in one of them."""

    @property
    def cost(self) -> float:
        """Seconds in addition to the first stage."""
        return 0.0 if self.seconds is None else self.seconds.median


def front(rows: list[Row]) -> list[Row]:
    """The rows with those on the Pareto front marked."""

    def beaten(row: Row) -> bool:
        quality = row.metrics[QUALITY].value
        return any(
            other.cost <= row.cost
            and other.metrics[QUALITY].value >= quality
            and (other.cost < row.cost or other.metrics[QUALITY].value > quality)
            for other in rows
        )

    return [replace(row, on_front=not beaten(row)) for row in rows]
