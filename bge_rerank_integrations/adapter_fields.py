"""What the adapters share: the options of `load_scorer` as fields, and a scorer that is loaded on first use."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from bge_rerank_integrations.model.families import check_family
from bge_rerank_integrations.options import (
    GROUPS,
    NUMBER_LISTS,
    EngineSettings,
    ModelSource,
    Placement,
    ScoringOptions,
    names,
    pick,
)
from bge_rerank_integrations.protocol import ScorerProtocol, missing_methods
from bge_rerank_integrations.ranking import describe

if TYPE_CHECKING:
    from typing_extensions import Self

    from bge_rerank_integrations.scorer import Scorer

    class _Options(BaseModel, ScoringOptions, EngineSettings, Placement, ModelSource):
        """Type checkers see the options as fields of a model, which is what the other branch makes of them."""
else:
    _Options = create_model(
        "_Options",
        **{
            field.name: (get_type_hints(group)[field.name], field.default)
            for group in GROUPS
            for field in fields(group)
            if field.name != "model"
        },
    )

SCORING_FIELDS = names(ScoringOptions)
LOADING_FIELDS = tuple(name for group in GROUPS for name in names(group) if name not in ("model", *SCORING_FIELDS))


class ScorerFields(_Options):
    """Which model, and how it scores: the arguments of `load_scorer` as fields. Nothing is loaded before first use."""

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), validate_assignment=True
    )

    model: str | None = Field(default=None, min_length=1)  # type: ignore[assignment]
    """Hub id, folder or "demo", as in `load_scorer`; with an injected `scorer`, its name in events."""
    scorer: ScorerProtocol | None = Field(default=None, exclude=True, repr=False)
    """A scorer that is already loaded, in place of `model` and the options below."""
    on_batch: Callable[[Any], object] | None = Field(default=None, exclude=True, repr=False)

    _lazy: LazyScorer = PrivateAttr(default_factory=lambda: LazyScorer())

    @field_validator("model", "cache_dir", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """A path as a string, so that adapters can be written as JSON."""
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator(*NUMBER_LISTS)
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        """A list, as JSON has it, as the tuple that defaults are: adapters with the same layers are equal."""
        return tuple(value) if isinstance(value, list) else value

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str | None) -> str | None:
        if value is not None:
            check_family(value)
        return value

    @field_validator("scorer", mode="before")
    @classmethod
    def _is_scorer(cls, value: object) -> object:
        if value is not None and (missing := missing_methods(value)):
            raise ValueError(
                f"scorer={describe(value)} has no {', '.join(missing)}: give what load_scorer returned, or a name as "
                "model="
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> ScorerFields:
        if self.scorer is None and self.model is None:
            raise ValueError("give model= (a hub id, a folder or 'demo') or scorer= (from load_scorer)")
        if self.scorer is not None:
            known = type(self).model_fields
            set_too = [name for name in SCORING_FIELDS + LOADING_FIELDS if getattr(self, name) != known[name].default]
            if set_too:
                raise ValueError(
                    f"{', '.join(set_too)} would have no effect beside scorer=: give it to load_scorer or to "
                    "scorer.with_options instead"
                )
        values = self._values(SCORING_FIELDS + LOADING_FIELDS)
        for group in (Placement, EngineSettings, ScoringOptions):
            pick(group, values)  # type: ignore[type-var]
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

    def _ready(self) -> ScorerProtocol:
        """The scorer as the fields say now; what changed since the last use takes effect."""
        if self.scorer is not None:
            return self.scorer
        assert self.model is not None  # or _check would have refused it
        return self._lazy.get(self.model, self._values(LOADING_FIELDS), self._values(SCORING_FIELDS))

    async def _aready(self) -> ScorerProtocol:
        """As `_ready`; loading happens in a thread of its own, not in those that the event loop has for everyone."""
        if self.scorer is None and not self._lazy.holds(self.model, self._values(LOADING_FIELDS)):
            return await asyncio.get_running_loop().run_in_executor(self._lazy.loading, self._ready)
        return self._ready()

    def _values(self, wanted: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in wanted}


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
        self._source: tuple[str, Mapping[str, Any]] | None = None
        self._options: Mapping[str, Any] = {}
        self._scorer: Scorer | None = None
        self.loading = ThreadPoolExecutor(1, "bge-rerank-load")  # starts its thread on first use

    def holds(self, model: str | None, loading: Mapping[str, Any]) -> bool:
        """Whether this very model is loaded."""
        return self._scorer is not None and self._source == (model, loading)

    def get(self, model: str, loading: Mapping[str, Any], scoring: Mapping[str, Any]) -> Scorer:
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
