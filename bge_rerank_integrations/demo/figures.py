"""Where the answers of the whole evaluation set stood before and after reranking: measured once, kept in figures.json.

Scoring all of it takes minutes, too long for a demonstration. `python -m training.demo_figures` writes the file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

FIGURES = Path(__file__).with_name("figures.json")


@dataclass(frozen=True)
class Figures:
    """For each query of the evaluation set the rank of its best answer, from 1; 0: not among the candidates."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def found(self) -> int:
        """Queries with an answer among the candidates: the others no reranker can help."""
        return sum(rank > 0 for rank in self.before)

    @property
    def up(self) -> int:
        return sum(after < before for before, after in zip(self.before, self.after, strict=True))

    @property
    def down(self) -> int:
        return sum(after > before for before, after in zip(self.before, self.after, strict=True))

    def within(self, top: int) -> tuple[int, int]:
        """How many queries have an answer among the first `top`, before and after."""
        before, after = (sum(0 < rank <= top for rank in ranks) for ranks in (self.before, self.after))
        return before, after


def rank_of(answers: Collection[int], order: Sequence[int]) -> int:
    """The place of the first answer in an order, from 1; 0: it has none."""
    return next((place for place, index in enumerate(order, 1) if index in answers), 0)


def load_figures(model: str) -> Figures | None:
    """What was measured with a model; None: it was not."""
    measured = json.loads(FIGURES.read_text(encoding="utf-8")).get(model)
    return None if measured is None else Figures(tuple(measured["before"]), tuple(measured["after"]))
