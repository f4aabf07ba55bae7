"""Who scores a block: the model in this process, or whatever else has `submit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from bge_rerank_integrations.errors import OptionError, OutOfMemory, ScoreError
from bge_rerank_integrations.options import (
    SECRETS,
    EngineSettings,
    ModelSource,
    Placement,
    ScoringOptions,
    names,
    not_by_default,
    pick,
)
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Pair

Outcome = list[float] | str
"""A score for each pair of a row, or the reason why the row cannot be scored."""
AT_ONCE = 2
"""Blocks that a model has at the same time, so that the end of one shares batches with the beginning of the next."""


class Runner(Protocol):
    """Scores blocks, several at a time."""

    capacity: int
    """How many blocks it can use at once."""

    def submit(self, rows: Sequence[list[Pair]]) -> Future[list[Outcome]]:
        """Begin to score the pairs of each row of a block."""


Watch = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is done, and how much there is; 0: that is not known."""
Start = Callable[[Watch], AbstractContextManager[Runner]]
"""Loads models. Nothing is loaded where nothing is left to score."""


@dataclass(frozen=True)
class Model:
    """A model, and how it scores.

    Raises:
        OptionError: an option is unknown, or its value impossible.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `load_scorer` besides the model and its devices."""

    def __post_init__(self) -> None:
        known = {*names(ModelSource), *names(Placement), *names(EngineSettings), *names(ScoringOptions)}
        known -= {"model", "devices", "on_batch"}
        for name in self.options:
            if name in SECRETS:  # they would be written to the job's file, and sent to actors
                raise OptionError(
                    f"option {name!r} is a secret: set HF_TOKEN in the environment of what loads the model"
                )
            if name not in known:
                raise OptionError(f"unknown option {name!r}: use one of {', '.join(sorted(known))}")
        self._groups()
        pick(EngineSettings, self.options)

    def arguments(self) -> dict[str, Any]:
        """For `load_scorer`."""
        return {"model": self.name, **self.options}

    def describe(self) -> dict[str, Any]:
        """What scores depend on: the model, and every option that is not at its default."""
        elsewhere = ("model", "cache_dir", "local_files_only")  # where the same weights are found
        chosen = {name: value for group in self._groups() for name, value in not_by_default(group).items()}
        return {"model": self.name} | {name: value for name, value in chosen.items() if name not in elsewhere}

    def _groups(self) -> tuple[ModelSource, Placement, ScoringOptions]:
        given = self.arguments()
        return pick(ModelSource, given), pick(Placement, given), pick(ScoringOptions, given)


def score_rows(scorer: ScorerProtocol, rows: Sequence[list[Pair]]) -> list[Outcome]:
    """Score the pairs of every row in one call; where that fails for some of them, find these by halving."""
    try:
        scores = iter(scorer.score_pairs([pair for row in rows for pair in row]))
    except (ScoreError, OutOfMemory) as error:
        if len(rows) == 1:
            return [str(error)]
        middle = len(rows) // 2
        return score_rows(scorer, rows[:middle]) + score_rows(scorer, rows[middle:])
    return [list(islice(scores, len(row))) for row in rows]


class InProcess:
    """Threads that share one scorer, which puts what they ask into common batches."""

    capacity = AT_ONCE

    def __init__(self, scorer: ScorerProtocol, threads: ThreadPoolExecutor) -> None:
        self._scorer = scorer
        self._threads = threads

    def submit(self, rows: Sequence[list[Pair]]) -> Future[list[Outcome]]:
        return self._threads.submit(score_rows, self._scorer, rows)


@contextmanager
def in_process(model: Model, devices: str | Sequence[str] | None, watch: Watch) -> Iterator[Runner]:
    """Load the model here, one replica a device."""
    from bge_rerank_integrations.loading import load_scorer

    watch("loading the model", 0, 0)
    with (
        ThreadPoolExecutor(AT_ONCE, "bge-rerank-block") as threads,
        load_scorer(
            devices=devices, **model.arguments()
        ) as scorer,  # closed first, which ends what the threads wait for
    ):
        yield InProcess(scorer, threads)
