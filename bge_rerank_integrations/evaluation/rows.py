"""The rows of an evaluation: one for each configuration, and one for the first stage alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bge_rerank_integrations.evaluation.metrics import Estimate

QUALITY = "nDCG@10"
"""The measure that decides."""


@dataclass(frozen=True)
class Seconds:
    """Of one query with all its candidates."""

    median: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Row:
    """One configuration, or the first stage alone."""

    name: str
    metrics: dict[str, Estimate]
    behind_best: Estimate
    """nDCG@10 of the best row minus this one's, query by query."""
    run_file: str
    settings: dict[str, Any] = field(default_factory=dict)
    """The model and its options; empty for the first stage."""
    difference: dict[str, Estimate] = field(default_factory=dict)
    """This minus the first stage, query by query; empty for the first stage."""
    seconds: Seconds | None = None
    """None for the first stage, which every row pays for."""
    extra_bytes: int | None = None
    tied_queries: int = 0
    """Queries all of whose candidates got the same score and so kept the first stage's order."""
    on_front: bool = False
    """No other row is at least as good in nDCG@10 and in time, and better in one of them."""

    @property
    def cost(self) -> float:
        """Seconds on top of the first stage."""
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
