"""`Scorer`: the whole way from a query and texts to scores, on one page.

query + text -> token ids (`model.inputs`) -> requests in a queue, batches by token budget (`engine`) -> one packed
tensor (`model.packing`) -> forward pass (`model.families`, `model.nn`) -> score -> order, cut (`ranking`).
"""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from bge_rerank_integrations.engine.deadline import Deadline
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import LayerScores, Recipe, Request, TokenSequence
from bge_rerank_integrations.errors import ScoreError
from bge_rerank_integrations.model.families.base import Family
from bge_rerank_integrations.model.inputs import Limits
from bge_rerank_integrations.options import ScoringOptions, changed
from bge_rerank_integrations.protocol import Progress
from bge_rerank_integrations.ranking import (
    Pair,
    Ranked,
    check_top_n,
    checked_pairs,
    distinct,
    pairs_of,
    rank,
    sigmoid,
)
from bge_rerank_integrations.stats import Stats

CHUNK = 1024
"""Pairs to tokenize and queue at a time."""


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
        scored = self._scored(unique, recipe)
        return {layer: self._column(checked, unique, scored, index) for index, layer in enumerate(cutoff_layers)}

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
        return await self._ascores(pairs_of(query, texts))

    async def ascore_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """As `score_pairs`, without blocking the event loop."""
        return await self._ascores(checked_pairs(pairs))

    async def ascore_layers(self, pairs: Iterable[Pair], cutoff_layers: Sequence[int]) -> dict[int, list[float]]:
        """As `score_layers`, without blocking the event loop."""
        recipe = self._core.family.recipe(self._options, cutoff_layers)
        checked = checked_pairs(pairs)
        unique = distinct(checked)
        scored = await self._ascored(unique, recipe)
        return {layer: self._column(checked, unique, scored, index) for index, layer in enumerate(cutoff_layers)}

    async def arank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        """As `rank`, without blocking the event loop."""
        check_top_n(top_n)
        return rank(await self.ascore(query, texts), top_n, score_threshold)

    def with_options(self, **changes: Any) -> Scorer:
        """A scorer over the same weights with some of its `options` changed; both may be used at the same time."""
        return Scorer(self._core, changed(self._options, changes))

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
        return self._core.family.allowed_cutoffs

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
        return self._core.reload, (self._options,)

    def _encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        started = time.perf_counter()
        sequences = self._inputs.encode(pairs)
        truncated = sum(sequence.truncated for sequence in sequences)
        self._core.engine.counters.count_pairs(len(sequences), truncated, time.perf_counter() - started)
        return sequences

    def _scores(self, pairs: Sequence[Pair], on_progress: Progress | None) -> list[float]:
        unique = distinct(pairs)
        return self._column(pairs, unique, self._scored(unique, self._recipe, on_progress))

    async def _ascores(self, pairs: Sequence[Pair]) -> list[float]:
        unique = distinct(pairs)
        return self._column(pairs, unique, await self._ascored(unique, self._recipe))

    def _scored(self, pairs: Sequence[Pair], recipe: Recipe, on_progress: Progress | None = None) -> list[LayerScores]:
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
                with deadline.or_queue_full():
                    requests[-1].admitted.result(deadline.remaining)
            with deadline.or_timeout():
                return [scores for request in requests for scores in request.future.result(deadline.remaining)]
        finally:
            for request in requests:  # whatever is left of them, if anything went wrong
                request.future.cancel()

    async def _ascored(self, pairs: Sequence[Pair], recipe: Recipe) -> list[LayerScores]:
        """As `_scored`, awaiting."""
        engine, loop = self._core.engine, asyncio.get_running_loop()
        engine.check_open()
        deadline = Deadline(engine)
        requests: list[Request] = []
        try:
            for start in range(0, len(pairs), CHUNK):
                sequences = await loop.run_in_executor(engine.tokenizing, self._encode, pairs[start : start + CHUNK])
                requests.append(Request(sequences, recipe))
                engine.submit(requests[-1])
                with deadline.or_queue_full():
                    await asyncio.wait_for(asyncio.wrap_future(requests[-1].admitted), deadline.remaining)
            scored: list[LayerScores] = []
            with deadline.or_timeout():
                for request in requests:
                    done = await asyncio.wait_for(asyncio.wrap_future(request.future), deadline.remaining)
                    scored.extend(done)
            return scored
        finally:
            for request in requests:
                request.future.cancel()

    def _column(
        self, pairs: Sequence[Pair], unique: Sequence[Pair], scored: Sequence[LayerScores], index: int = 0
    ) -> list[float]:
        """From what distinct pairs scored the scores of all pairs after one layer, on the scale of the options."""
        known = dict(zip(unique, scored, strict=True))
        scores = [known[pair][index] for pair in pairs]
        if bad := [index for index, score in enumerate(scores) if not math.isfinite(score)]:
            raise ScoreError(
                f"pair {bad[0]} (of {len(bad)} so) scored {scores[bad[0]]} in {self._core.dtype}: "
                "load the model with dtype='float32', or 'bfloat16', whose range is wider than that of 'float16'"
            )
        return [sigmoid(score) for score in scores] if self._options.scale == "sigmoid" else scores


class Core(NamedTuple):
    """What scorers of the same weights share."""

    family: Family
    engine: Engine
    dtype: str
    reload: Callable[[ScoringOptions], Scorer]
    """Load the same once more, in another process perhaps."""


def _shifted(on_progress: Progress | None, start: int, total: int) -> Progress | None:
    """Progress of a chunk as progress of the whole call, which sees chunks finish in order."""
    return None if on_progress is None else lambda done, _: on_progress(start + done, total)


def limits(family: Family, options: ScoringOptions) -> Limits:
    """How many tokens to keep, clamped to what the model's positions allow; where nobody set a length, silently."""
    if options.max_length > family.longest and options.max_length != ScoringOptions.max_length:
        warnings.warn(
            f"max_length={options.max_length} is more than the {family.longest} tokens this model takes: "
            f"{family.longest} is used",
            UserWarning,
            stacklevel=4,
        )
    length = min(options.max_length, family.longest)
    query = length * 3 // 4 if options.query_max_length is None else options.query_max_length
    return Limits(query=query, passage=length)
