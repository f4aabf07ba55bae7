"""`Scorer`: the whole way from a query and texts to scores, on one page.

query + text -> token ids (`model.inputs`) -> requests in a queue, batches by token budget (`engine`) -> one packed
tensor (`model.packing`) -> forward pass (`model.families`, `model.nn`) -> score -> order, cut (`ranking`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from bge_rerank_integrations.call import Call
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import LayerScores, Recipe
from bge_rerank_integrations.errors import ScoreError
from bge_rerank_integrations.model.families.base import Family
from bge_rerank_integrations.model.inputs import Limits
from bge_rerank_integrations.options import Scale, ScoringOptions, changed, checked_timeout
from bge_rerank_integrations.protocol import Progress
from bge_rerank_integrations.ranking import (
    Pair,
    Ranked,
    check_threshold,
    check_top_n,
    checked_pairs,
    pairs_of,
    rank,
    scaled,
)
from bge_rerank_integrations.stats import Stats
from bge_rerank_integrations.windows import Ruler


class Scorer:
    """A loaded reranker, made by `load_scorer`. Threads and event loops may share one."""

    def __init__(self, core: Core, options: ScoringOptions, timeout: float | None = None) -> None:
        core.family.check(options)
        self._core = core
        self._options = options
        self._timeout = timeout
        self._recipe = core.family.recipe(options)
        self._inputs = core.family.inputs(options, limits(core.family, options))

    def score(self, query: str, texts: Sequence[str], on_progress: Progress | None = None) -> list[float]:
        """Score every text for the query.

        Args:
            query: what is asked; may be empty.
            texts: what may answer it, in any order; duplicates and empty texts are allowed.
            on_progress: called in this thread as batches are done, with the numbers of scored texts and of all texts.

        Returns:
            One score for each text, in the order given; higher is more relevant. `options.scale` is its unit.

        Raises:
            TypeError: the query or a text is not a string; the message names its index.
            ScoreError: the model returned NaN or infinity.
            ClosedError: the scorer was closed.
            QueueFull, Timeout: there was no room in the queue, or no score, within `timeout`.
            OutOfMemory: one sequence alone does not fit the device's memory.
        """
        return self._on_scale(self._logits(pairs_of(query, texts), on_progress))

    def score_pairs(self, pairs: Iterable[Pair], on_progress: Progress | None = None) -> list[float]:
        """Score (query, text) pairs, any number of queries in one call. Returns and raises as `score`."""
        return self._on_scale(self._logits(checked_pairs(pairs), on_progress))

    def score_layers(self, pairs: Iterable[Pair], cutoff_layers: Sequence[int]) -> dict[int, list[float]]:
        """Scores after each of several layers, from one forward pass.

        Args:
            pairs: (query, text) pairs.
            cutoff_layers: after how many layers to score; any of `Scorer.cutoff_layers`, in any order.

        Returns:
            For each of the layers, one score for each pair in the order given.

        Raises:
            OptionError: a layer is not allowed (the message lists the allowed ones), or the family has no cutoffs.
        """
        recipe = self._core.family.recipe(self._options, cutoff_layers)
        return self._by_layer(recipe, self._call(checked_pairs(pairs), recipe).scores())

    def rank(
        self,
        query: str,
        texts: Sequence[str],
        top_n: int | None = None,
        score_threshold: float | None = None,
        on_progress: Progress | None = None,
    ) -> list[Ranked]:
        """Score the texts and sort them, best first. Equal ones keep the order given.

        They are sorted by logit on both scales, because sigmoids of high logits all round to 1.0.

        Args:
            top_n: how many to return at most; None: all.
            score_threshold: return only texts with at least this score, in the unit of `options.scale`; None: all.
            on_progress: as in `score`.

        Raises:
            TypeError, ValueError: `top_n` is not a count, or `score_threshold` is NaN or outside the scale.
        """
        cut = self._cut(top_n, score_threshold)
        return rank(self._logits(pairs_of(query, texts), on_progress), *cut)

    async def ascore(self, query: str, texts: Sequence[str]) -> list[float]:
        """As `score`, without blocking the event loop."""
        return self._on_scale(await self._alogits(pairs_of(query, texts)))

    async def ascore_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """As `score_pairs`, without blocking the event loop."""
        return self._on_scale(await self._alogits(checked_pairs(pairs)))

    async def ascore_layers(self, pairs: Iterable[Pair], cutoff_layers: Sequence[int]) -> dict[int, list[float]]:
        """As `score_layers`, without blocking the event loop."""
        recipe = self._core.family.recipe(self._options, cutoff_layers)
        return self._by_layer(recipe, await self._call(checked_pairs(pairs), recipe).ascores())

    async def arank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        """As `rank`, without blocking the event loop."""
        cut = self._cut(top_n, score_threshold)
        return rank(await self._alogits(pairs_of(query, texts)), *cut)

    def with_options(self, **changes: Any) -> Scorer:
        """A scorer with the same weights and some `options` changed. Both may be used at the same time."""
        return Scorer(self._core, changed(self._options, changes), self._timeout)

    def with_timeout(self, seconds: float) -> Scorer:
        """A scorer with the same weights and another `timeout` for its calls."""
        return Scorer(self._core, self._options, checked_timeout(seconds) or math.inf)

    @property
    def options(self) -> ScoringOptions:
        """The options that this scorer uses."""
        return self._options

    @property
    def family(self) -> str:
        """ "encoder", "llm", "layerwise", "lightweight" or "classifier"."""
        return self._core.family.name

    @property
    def dtype(self) -> str:
        """In which numbers it computes, such as "float32"; where "auto" or "fastest" was asked for, what was chosen."""
        return self._core.dtype

    @property
    def cutoff_layers(self) -> tuple[int, ...]:
        """After how many layers the model can score; empty for families without cutoffs."""
        return self._core.family.allowed_cutoffs

    @property
    def truncated_pairs(self) -> int:
        """How many pairs were cut to `max_length` or `query_max_length` since the model was loaded."""
        return self._core.engine.counters.truncated_pairs

    @property
    def ruler(self) -> Ruler:
        """Measures texts as this model reads them, under these options."""
        return self._inputs.ruler

    def stats(self) -> Stats:
        """What was scored since the model was loaded, where the time went, and what waits now."""
        return self._core.engine.stats()

    @property
    def closed(self) -> bool:
        return self._core.engine.closed

    def close(self) -> None:
        """Free the model and its threads, also for scorers made by `with_options`. May be called twice."""
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

    def _call(self, pairs: Sequence[Pair], recipe: Recipe) -> Call:
        engine = self._core.engine
        timeout = engine.settings.timeout if self._timeout is None else self._timeout
        return Call(engine, self._inputs, recipe, pairs, timeout)

    def _logits(self, pairs: Sequence[Pair], on_progress: Progress | None) -> list[float]:
        return self._column(self._call(pairs, self._recipe).scores(on_progress))

    async def _alogits(self, pairs: Sequence[Pair]) -> list[float]:
        return self._column(await self._call(pairs, self._recipe).ascores())

    def _by_layer(self, recipe: Recipe, scores: Sequence[LayerScores]) -> dict[int, list[float]]:
        return {layer: self._on_scale(self._column(scores, index)) for index, layer in enumerate(recipe.cutoffs)}

    def _column(self, scores: Sequence[LayerScores], index: int = 0) -> list[float]:
        """The logit of every pair after one of the recipe's layers."""
        logits = [row[index] for row in scores]
        if bad := [i for i, logit in enumerate(logits) if not math.isfinite(logit)]:
            raise ScoreError(
                f"pair {bad[0]} scored {logits[bad[0]]} in {self._core.dtype} ({len(bad)} of {len(logits)} scores are "
                "not finite): load the model with dtype='float32', or with 'bfloat16', whose range is wide enough"
            )
        return logits

    def _on_scale(self, logits: Sequence[float]) -> list[float]:
        return [scaled(logit, self._options.scale) for logit in logits]

    def _cut(self, top_n: int | None, score_threshold: float | None) -> tuple[int | None, float | None, Scale]:
        scale = self._options.scale
        return check_top_n(top_n), check_threshold(score_threshold, scale), scale


class Core(NamedTuple):
    """What scorers of the same weights share."""

    family: Family
    engine: Engine
    dtype: str
    reload: Callable[[ScoringOptions], Scorer]
    """Load the same model again, for example in another process."""


def limits(family: Family, options: ScoringOptions) -> Limits:
    """How many tokens to keep, at most as many as the model's positions allow; a warning where the length was set."""
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
