"""What both adapters share: their fields, and a scorer that is loaded on first use."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from bge_rerank_integrations.options import DType, FamilyName, HeadIndex, Scale, ScoringOptions

if TYPE_CHECKING:
    from typing_extensions import Self

    from bge_rerank_integrations.scorer import Scorer

SCORING_FIELDS = tuple(ScoringOptions.__dataclass_fields__)
LOADING_FIELDS = (
    "family",
    "revision",
    "cache_dir",
    "local_files_only",
    "devices",
    "dtype",
    "token_budget",
    "max_queued_tokens",
    "timeout",
    "cache_size",
    "on_batch",
)


def _path(value: object) -> object:
    """A path as the string that adapters keep, so that they can be written as JSON."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class ScorerFields(BaseModel):
    """Which model, and how it scores: the arguments of `load_scorer` as fields. Nothing is loaded before first use."""

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), validate_assignment=True
    )

    model: Annotated[str, BeforeValidator(_path), Field(min_length=1)] | None = None
    """Hub id, folder or "demo", as in `load_scorer`; with an injected `scorer`, its name in events."""
    scorer: Any = Field(default=None, exclude=True, repr=False)
    """A `Scorer` that is already loaded, in place of `model` and the options below."""
    family: FamilyName | None = None
    revision: str | None = None
    cache_dir: Annotated[str, BeforeValidator(_path)] | None = None
    local_files_only: bool = False
    devices: str | list[str] | None = None
    dtype: DType = "auto"
    token_budget: int | None = Field(default=None, ge=1)
    max_queued_tokens: int = Field(default=4_000_000, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    cache_size: int = Field(default=0, ge=0)
    on_batch: Callable[[Any], object] | None = Field(default=None, exclude=True, repr=False)

    max_length: int = 512
    query_max_length: int | None = None
    scale: Scale = "logit"
    query_instruction: str | None = None
    passage_instruction: str | None = None
    prompt: str | None = None
    cutoff_layer: int | None = None
    compress_ratio: int = 1
    compress_layers: Sequence[int] = (8,)
    head_index: HeadIndex = "position"
    attention_softcap: bool = False

    _lazy: LazyScorer = PrivateAttr(default_factory=lambda: LazyScorer())

    @model_validator(mode="after")
    def _check(self) -> ScorerFields:
        if self.scorer is None and self.model is None:
            raise ValueError("give model= (a hub id, a folder or 'demo') or scorer= (from load_scorer)")
        if self.scorer is not None:
            if not callable(getattr(self.scorer, "ascore", None)):
                raise ValueError(f"scorer={self.scorer!r}: give what load_scorer returned, or a name as model=")
            fields = type(self).model_fields
            set_too = [name for name in SCORING_FIELDS + LOADING_FIELDS if getattr(self, name) != fields[name].default]
            if set_too:
                raise ValueError(
                    f"{', '.join(set_too)} would have no effect beside scorer=: give it to load_scorer or to "
                    "scorer.with_options instead"
                )
        ScoringOptions(**self._values(SCORING_FIELDS))
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field if the result makes sense; pydantic alone would leave a refused value in place."""
        values, fields_set = dict(self.__dict__), set(self.model_fields_set)
        try:
            super().__setattr__(name, value)
        except ValidationError:
            self.__dict__.clear()
            self.__dict__.update(values)
            object.__setattr__(self, "__pydantic_fields_set__", fields_set)
            raise

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._lazy = LazyScorer()  # or a copy with another model would take turns with this one in loading it
        return copied

    def warm_up(self) -> None:
        """Load the model now rather than at the first query."""
        self._ready()

    def close(self) -> None:
        """Free a model that this adapter loaded; the next use loads it again. An injected scorer stays open."""
        self._lazy.close()

    def _ready(self) -> Scorer:
        """The scorer as the fields say now; what changed since the last use takes effect."""
        if self.scorer is not None:
            injected: Scorer = self.scorer
            return injected
        assert self.model is not None  # or _check would have refused it
        return self._lazy.get(self.model, self._values(LOADING_FIELDS), self._values(SCORING_FIELDS))

    async def _aready(self) -> Scorer:
        """As `_ready`; loading happens in a thread of its own, not in those that the event loop has for everyone."""
        if self.scorer is None and not self._lazy.holds(self.model, self._values(LOADING_FIELDS)):
            return await asyncio.get_running_loop().run_in_executor(self._lazy.loading, self._ready)
        return self._ready()

    def _values(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


class RerankFields(ScorerFields):
    """And what is kept of the results."""

    top_n: int | None = Field(default=3, ge=0)
    """How many results to return at most; None: all."""
    score_threshold: float | None = None
    """Return only results of at least this score, in the unit of `scale`; None: all."""


class LazyScorer:
    """A scorer once it is needed, loaded once whichever thread asks first. Copies and pickles start unloaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._source: tuple[str, dict[str, Any]] | None = None
        self._options: dict[str, Any] = {}
        self._scorer: Scorer | None = None
        self.loading = ThreadPoolExecutor(1, "bge-rerank-load")  # starts its thread on first use

    def holds(self, model: str | None, loading: dict[str, Any]) -> bool:
        """Whether this very model is loaded."""
        return self._scorer is not None and self._source == (model, loading)

    def get(self, model: str, loading: dict[str, Any], scoring: dict[str, Any]) -> Scorer:
        """Load if nothing is loaded or the model or its loading changed; else only change options."""
        with self._lock:
            if self._scorer is None or not self.holds(model, loading):
                from bge_rerank_integrations.loading import load_scorer

                # one that was loaded before goes when the last call that uses it has returned
                self._scorer = load_scorer(model, **loading, **scoring)
                self._source, self._options = (model, loading), scoring
            elif self._options != scoring:
                self._scorer, self._options = self._scorer.with_options(**scoring), scoring
            return self._scorer

    def close(self) -> None:
        with self._lock:
            if self._scorer is not None:
                self._scorer.close()
            self._scorer = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyScorer)  # adapters with equal fields are equal, loaded or not

    __hash__ = object.__hash__

    def __deepcopy__(self, memo: object) -> LazyScorer:
        return LazyScorer()

    def __reduce__(self) -> tuple[type[LazyScorer], tuple[()]]:
        return LazyScorer, ()
