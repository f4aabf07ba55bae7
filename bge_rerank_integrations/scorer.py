"""`Scorer`: the whole way from a query and texts to scores, on one page.

query + text -> token ids (`inputs`) -> shared, packed batches (`engine`, `batching`) -> forward (`families`, `nn`) ->
score -> order, cut.
"""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from bge_rerank_integrations.engine.engine import Deadline, Engine
from bge_rerank_integrations.engine.queue import Request, Row
from bge_rerank_integrations.errors import ScoreError
from bge_rerank_integrations.model.families.base import Family, Recipe
from bge_rerank_integrations.model.inputs import Limits, Pair
from bge_rerank_integrations.model.packing import TokenSequence
from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.ranking import check_top_n, checked_pairs, pairs_of
from bge_rerank_integrations.stats import Stats

Progress = Callable[[int, int], object]
CHUNK = 1024
"""Pairs to tokenize and queue at a time."""


class Ranked(NamedTuple):
    """One text of a ranking: its place in the list that was given, and its score."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody looks for here
    score: float


class Scorer:
    """A loaded reranker. Threads and event loops may share one; make it with `load_scorer`."""

    def __init__(self, core: Core, options: ScoringOptions) -> None:
        core.family.check(options)
        self._core = core
        self._options = options
        self._recipe = core.family.recipe(options)
        self._inputs = core.family.inputs(options, limits(core.family, options))

    def score(self, query: str, texts: Sequence[str], on_progress: Progress | None = None) -> list[float]:
        """Score every text for the query.

        Args:
            query: what is asked; may be empty.
            texts: what may answer it, in any order, duplicates and empty texts included.
            on_progress: called after each batch with how many distinct texts are scored and how many there are.

        Returns:
            One score a text, in the order given; higher is more relevant, in the unit that `options.scale` names.

        Raises:
            TypeError: the query or a text is no string; names its index.
            ScoreError: the model gave NaN or infinity.
            ClosedError: the scorer was closed.
        """
        return self._scores(pairs_of(query, texts), on_progress)

    def score_pairs(self, pairs: Iterable[Pair], on_progress: Progress | None = None) -> list[float]:
        """Score (query, text) pairs, any number of queries in one call. Returns and raises as `score`."""
        return self._scores(checked_pairs(pairs), on_progress)

    def score_layers(self, pairs: Iterable[Pair], cutoff_layers: Sequence[int]) -> dict[int, list[float]]:
        """Scores after each of several layers, from one forward pass.

        Args:
            pairs: (query, text) pairs.
            cutoff_layers: after how many layers to score; any of the model's allowed ones, in any order.

        Returns:
            For each layer asked, one score a pair in the order given.

        Raises:
            OptionError: a layer is not allowed (the message lists those that are), or the family has no cutoffs.
        """
        recipe = self._core.family.recipe(self._options, cutoff_layers)
        checked = checked_pairs(pairs)
        unique = distinct(checked)
        rows = self._rows(unique, recipe)
        return {layer: self._column(checked, unique, rows, place) for place, layer in enumerate(cutoff_layers)}

    def rank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        """Score the texts and put them in order, best first; equal scores keep the order given.

        Args:
            top_n: how many to return at most; None: all.
            score_threshold: return only scores of at least this, in the unit of `options.scale`; None: all.
        """
        check_top_n(top_n)
        return rank(self.score(query, texts), top_n, score_threshold)

    async def ascore(self, query: str, texts: Sequence[str]) -> list[float]:
        """As `score`, without blocking the event loop: texts are tokenized in one thread, scored in another."""
        pairs = pairs_of(query, texts)
        unique = distinct(pairs)
        return self._column(pairs, unique, await self._arows(unique, self._recipe))

    def with_options(self, **changes: Any) -> Scorer:
        """A scorer over the same weights with some of its `options` changed; both may be used at the same time."""
        return Scorer(self._core, self._options.changed(**changes))

    @property
    def options(self) -> ScoringOptions:
        """How this scorer scores."""
        return self._options

    @property
    def family(self) -> str:
        """ "encoder", "llm", "layerwise" or "lightweight"."""
        return self._core.family.name

    @property
    def cutoff_layers(self) -> tuple[int, ...]:
        """After which layers the model can score; empty for families without cutoffs."""
        return tuple(getattr(self._core.family, "allowed_cutoffs", ()))

    @property
    def truncated_pairs(self) -> int:
        """How many (distinct) pairs lost text to `max_length` or `query_max_length` since the model was loaded."""
        return self._core.engine.counters.truncated_pairs

    def stats(self) -> Stats:
        """What was scored since the model was loaded, where the time went, and what waits now."""
        return self._core.engine.stats()

    @property
    def closed(self) -> bool:
        return self._core.engine.closed

    def close(self) -> None:
        """Free the model and its threads, also for scorers made with `with_options`. Closing twice is fine."""
        self._core.engine.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Scorer({self._core.family.checkpoint.folder.name!r}, family={self.family!r}, {self._options})"

    def __deepcopy__(self, memo: object) -> Scorer:
        return self  # threads may share it, and it never changes

    def __reduce__(self) -> tuple[Any, ...]:
        return _reloaded, (self._core.reload, self._options)

    def _encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        started = time.perf_counter()
        sequences = self._inputs.encode(pairs)
        truncated = sum(sequence.truncated for sequence in sequences)
        self._core.engine.counters.count_pairs(len(sequences), truncated, time.perf_counter() - started)
        return sequences

    def _scores(self, pairs: Sequence[Pair], on_progress: Progress | None) -> list[float]:
        unique = distinct(pairs)
        return self._column(pairs, unique, self._rows(unique, self._recipe, on_progress))

    def _rows(self, pairs: Sequence[Pair], recipe: Recipe, on_progress: Progress | None = None) -> list[Row]:
        """Tokenize and queue chunk by chunk, so that the device has work while later chunks are tokenized."""
        engine = self._core.engine
        engine.check_open()
        deadline = Deadline(engine)
        requests: list[Request] = []
        try:
            for start in range(0, len(pairs), CHUNK):
                sequences = self._encode(pairs[start : start + CHUNK])
                requests.append(Request(sequences, recipe, _shifted(on_progress, start, len(pairs))))
                engine.submit(requests[-1])
                with deadline.full():
                    requests[-1].admitted.result(deadline.remaining)
            with deadline.late():
                return [row for request in requests for row in request.future.result(deadline.remaining)]
        finally:
            for request in requests:  # whatever is left of them, if anything went wrong
                request.future.cancel()

    async def _arows(self, pairs: Sequence[Pair], recipe: Recipe) -> list[Row]:
        """As `_rows`, awaiting."""
        engine, loop = self._core.engine, asyncio.get_running_loop()
        engine.check_open()
        deadline = Deadline(engine)
        requests: list[Request] = []
        try:
            for start in range(0, len(pairs), CHUNK):
                sequences = await loop.run_in_executor(engine.tokenizing, self._encode, pairs[start : start + CHUNK])
                requests.append(Request(sequences, recipe))
                engine.submit(requests[-1])
                with deadline.full():
                    await asyncio.wait_for(asyncio.wrap_future(requests[-1].admitted), deadline.remaining)
            rows: list[Row] = []
            with deadline.late():
                for request in requests:
                    done = await asyncio.wait_for(asyncio.wrap_future(request.future), deadline.remaining)
                    rows.extend(done)
            return rows
        finally:
            for request in requests:
                request.future.cancel()

    def _column(
        self, pairs: Sequence[Pair], unique: Sequence[Pair], rows: Sequence[Row], place: int = 0
    ) -> list[float]:
        """From the rows of distinct pairs the scores of all pairs, on the scale of the options."""
        known = dict(zip(unique, rows, strict=True))
        scores = [known[pair][place] for pair in pairs]
        if bad := [index for index, score in enumerate(scores) if not math.isfinite(score)]:
            raise ScoreError(
                f"pair {bad[0]} (of {len(bad)} so) scored {scores[bad[0]]} in {self._core.dtype}: "
                "load the model with dtype='float32', or 'bfloat16', whose range is wider than that of 'float16'"
            )
        return [_sigmoid(score) for score in scores] if self._options.scale == "sigmoid" else scores


class Core(NamedTuple):
    """What scorers of the same weights share."""

    family: Family
    engine: Engine
    dtype: str
    reload: Callable[..., Scorer]
    """Load the same once more, in another process perhaps."""


def _reloaded(reload: Callable[..., Scorer], options: ScoringOptions) -> Scorer:
    return reload(**asdict(options))


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair once, so that equal pairs get scores that are equal to the last bit and ties keep their order."""
    return list(dict.fromkeys(pairs))


def rank(scores: Sequence[float], top_n: int | None = None, score_threshold: float | None = None) -> list[Ranked]:
    """Scores best first, ties in the order given; those of at least `score_threshold`, and of them `top_n`."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    kept = [Ranked(i, scores[i]) for i in order if score_threshold is None or scores[i] >= score_threshold]
    return kept[:top_n]


def _shifted(on_progress: Progress | None, start: int, total: int) -> Progress | None:
    """Progress of a chunk as progress of the whole call, which sees chunks finish in order."""
    return None if on_progress is None else lambda done, _: on_progress(start + done, total)


def limits(family: Family, options: ScoringOptions) -> Limits:
    """How many tokens to keep, clamped to what the model's positions allow."""
    if options.max_length > family.longest:
        warnings.warn(
            f"max_length={options.max_length} is more than the {family.longest} tokens this model takes: "
            f"{family.longest} is used",
            UserWarning,
            stacklevel=4,
        )
    length = min(options.max_length, family.longest)
    query = length * 3 // 4 if options.query_max_length is None else options.query_max_length
    return Limits(query=query, passage=length)


def _sigmoid(score: float) -> float:
    """1 / (1 + exp(-score)), for any finite score."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))
