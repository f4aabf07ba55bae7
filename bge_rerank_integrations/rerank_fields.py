"""What the adapters that rank share: how much is kept, what is done before and after scoring, the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import Field, ValidationInfo, create_model, field_validator, model_validator

from bge_rerank_integrations.adapter_fields import ScorerFields, count_of, field_of, list_of
from bge_rerank_integrations.option_values import share_of
from bge_rerank_integrations.options import RankingOptions, names, pick
from bge_rerank_integrations.ranking import check_threshold
from bge_rerank_integrations.reranking import Reranked, arerank, rerank
from bge_rerank_integrations.text_choice import Passage

if TYPE_CHECKING:
    from typing_extensions import Self

    class _RankingFields(ScorerFields, RankingOptions):
        """Type checkers see the options as fields of a model, which is what the other branch makes of them."""
else:
    hints = get_type_hints(RankingOptions)
    _RankingFields = create_model(
        "_RankingFields",
        __base__=ScorerFields,
        **{option.name: (hints[option.name], field_of(option)) for option in fields(RankingOptions)},
    )

RERANK_SCORE_KEY, RETRIEVAL_SCORE_KEY, RETRIEVAL_RANK_KEY = "rerank_score", "retrieval_score", "retrieval_rank"
"""Where metadata has the two scores that a fused one is made of, and the retriever's rank."""
WINDOW_KEY = "best_window"
"""Where metadata has the characters, [first, one after the last], of the text's best window."""
REMEDY = "use long='windows', or a larger max_length where the model has room; long='refuse' makes it an error"
"""Against texts that are cut."""
AS_SET: Any = object()
"""The default of an argument that, left out, is as the field of its name says."""


class RerankFields(_RankingFields):
    """And what is kept of the results, with the options of `options.RankingOptions`."""

    top_n: int | None = Field(default=3, ge=0)
    """How many results to return at most; None: all."""
    score_threshold: float | None = None
    """Return only results of at least this score, in the unit of `scale`; None: all."""

    @field_validator("top_n", mode="before")
    @classmethod
    def _as_count(cls, value: object) -> object:
        return count_of(value, "top_n")

    @field_validator("score_threshold", mode="before")
    @classmethod
    def _as_score(cls, value: object) -> object:
        return _real(value, "score_threshold")

    @field_validator("window_overlap", "max_windows", mode="before")
    @classmethod
    def _as_whole(cls, value: object, info: ValidationInfo) -> object:
        return count_of(value, str(info.field_name))

    @field_validator("fusion_weight", mode="before")
    @classmethod
    def _as_share(cls, value: object) -> object:
        return share_of(value)

    @field_validator("metadata_fields", mode="before")
    @classmethod
    def _as_keys(cls, value: object) -> object:
        return list_of(value)

    @model_validator(mode="after")
    def _check_ranking(self) -> RerankFields:
        check_threshold(self.score_threshold, self.scale if self.scorer is None else self.scorer.options.scale)
        self._ranking_options()
        return self

    def with_options(
        self, *, top_n: int | None = AS_SET, score_threshold: float | None = AS_SET, **changes: Any
    ) -> Self:
        """A copy with other fields that shares the loaded model: for one request's own `top_n`, say.

        Threads can each make theirs, while setting a field of a shared adapter would change it for all.
        """
        cuts = {"top_n": top_n, "score_threshold": score_threshold}
        return super().with_options(**{name: cut for name, cut in cuts.items() if cut is not AS_SET}, **changes)

    def _check_savable(self) -> None:
        super()._check_savable()
        if callable(self.metadata_fields):
            raise ValueError(
                f"{type(self).__name__} with metadata_fields={self.metadata_fields!r} cannot be saved, since a "
                "function cannot: give a list of keys or a template instead"
            )

    def _ranking_options(self) -> RankingOptions:
        return pick(RankingOptions, self._values(names(RankingOptions)))

    def _reranked(self, query: str, passages: Sequence[Passage], top_n: int | None) -> list[Reranked]:
        """The passages, best first, loading the model if it is not."""
        scorer = self._ready()
        with self._telling_of_cuts(scorer, REMEDY):
            return rerank(scorer, query, passages, self._ranking_options(), top_n, self.score_threshold)

    async def _areranked(self, query: str, passages: Sequence[Passage], top_n: int | None) -> list[Reranked]:
        """As `_reranked`, without blocking the event loop."""
        scorer = await self._aready()
        with self._telling_of_cuts(scorer, REMEDY):
            return await arerank(scorer, query, passages, self._ranking_options(), top_n, self.score_threshold)


def _real(value: Any, name: str) -> object:
    """The number as Python's; what is none is left for pydantic, which would take True for 1.0."""
    if isinstance(value, bool):
        raise ValueError(f"{name}={value}: use a number, or None to keep all")
    try:
        return float(value) if hasattr(value, "__float__") else value
    except (TypeError, ValueError, OverflowError):
        return value


def details(one: Reranked) -> dict[str, Any]:
    """What metadata says of a passage besides the score that it is ordered by."""
    window = {} if one.span is None else {WINDOW_KEY: list(one.span)}
    if one.retrieval_rank is None:
        return window
    known = {} if one.retrieval_score is None else {RETRIEVAL_SCORE_KEY: one.retrieval_score}
    return {RERANK_SCORE_KEY: one.rerank_score, RETRIEVAL_RANK_KEY: one.retrieval_rank, **known, **window}
