"""What the adapters share: the options of `load_scorer` as fields, and a scorer that is loaded on first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field as Option
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

from bge_rerank_integrations.lazy import LazyScorer
from bge_rerank_integrations.model.families import check_family
from bge_rerank_integrations.options import (
    GROUPS,
    NUMBER_LISTS,
    SECRETS,
    EngineSettings,
    ModelSource,
    Placement,
    Scale,
    ScoringOptions,
    device_names,
    dtype_name,
    names,
    pick,
    whole_number,
)
from bge_rerank_integrations.other_names import HINTS
from bge_rerank_integrations.protocol import ScorerProtocol, missing_methods
from bge_rerank_integrations.ranking import check_threshold, describe


def _field(option: Option[Any]) -> Any:
    """An option as a field, with its default as it is read back from JSON. A secret is neither shown nor written."""
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    return Field(default=default, exclude=not option.repr, repr=option.repr)


if TYPE_CHECKING:
    from typing_extensions import Self

    class _Options(BaseModel, ScoringOptions, EngineSettings, Placement, ModelSource):
        """Type checkers see the options as fields of a model, which is what the other branch makes of them."""
else:
    _Options = create_model(
        "_Options",
        **{
            field.name: (get_type_hints(group)[field.name], _field(field))
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
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        validate_assignment=True,
        hide_input_in_errors=True,  # or an error about one field would show all, `token` too
    )

    model: str | None = Field(default=None, min_length=1)  # type: ignore[assignment]
    """Hub id, folder or "demo", as in `load_scorer`; with an injected `scorer`, its name in events."""
    scorer: ScorerProtocol | None = Field(default=None, exclude=True, repr=False)
    """A scorer that is already loaded, in place of `model` and the options below."""
    on_batch: Callable[[Any], object] | None = Field(default=None, exclude=True, repr=False)

    _lazy: LazyScorer = PrivateAttr(default_factory=LazyScorer)

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any) -> Any:
        """Say what a field of another reranker is called here."""
        if isinstance(values, Mapping):
            for name in values:
                if name not in cls.model_fields and name in HINTS:
                    raise ValueError(f"{name} is not a field of {cls.__name__}: use {HINTS[name]}")
        return values

    @field_validator("model", "cache_dir", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """A path as a string, so that adapters can be written as JSON."""
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("devices", mode="before")
    @classmethod
    def _as_names(cls, value: object) -> object:
        """0 as "cuda:0", a `torch.device` as its name."""
        devices = device_names(value)
        return list(devices) if isinstance(devices, tuple) else devices

    @field_validator("dtype", mode="before")
    @classmethod
    def _as_name(cls, value: object) -> object:
        return dtype_name(value)

    @field_validator(*NUMBER_LISTS, mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """A list, as it is read back from JSON."""
        if whole_number(value) is not None:
            return [value]
        return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value

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

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """The fields, to make an equal adapter from."""
        self._check_savable()
        return super().model_dump(**kwargs)

    def model_dump_json(self, **kwargs: Any) -> str:
        """The fields as JSON, to make an equal adapter from."""
        self._check_savable()
        return super().model_dump_json(**kwargs)

    def __getstate__(self) -> dict[Any, Any]:
        """What is pickled, without secrets."""
        state = BaseModel.__getstate__(self)
        return {**state, "__dict__": {name: None if name in SECRETS else v for name, v in state["__dict__"].items()}}

    def _check_savable(self) -> None:
        """Say now, not when it is read again, that a loaded scorer cannot be written down."""
        if self.scorer is not None:
            raise ValueError(
                f"{type(self).__name__} with scorer={self.scorer!r} cannot be saved, since a loaded model cannot: give "
                "model= and the options instead"
            )

    def __eq__(self, other: object) -> bool:
        """Whether both are of one class and have the same fields, loaded or not."""
        if type(self) is not type(other):
            return False
        return all(
            getattr(self, name) == getattr(other, name)
            for name, field in type(self).model_fields.items()
            if not field.exclude or name in ("scorer", "on_batch")
        )

    __hash__ = None  # type: ignore[assignment]  # fields can be set

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._lazy = self._lazy.shared()
        return copied

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the loaded model, unless `deep`; `update` is validated as the constructor's arguments."""
        if not update:
            return super().model_copy(deep=deep)
        given = {name: getattr(self, name) for name in self.model_fields_set}
        copied = type(self).model_validate({**given, **update})
        if not deep:
            copied._lazy = self._lazy.shared()
        return copied

    def with_options(self, **changes: Any) -> Self:
        """A copy with other fields that shares the loaded model: for one request's own `top_n`, say.

        Threads can each make theirs, while setting a field of a shared adapter would change it for all.
        """
        return self.model_copy(update=changes)

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
        """As `_ready`, without blocking the event loop."""
        if self.scorer is not None:
            return self.scorer
        assert self.model is not None
        return await self._lazy.aget(self.model, self._values(LOADING_FIELDS), self._values(SCORING_FIELDS))

    def _values(self, wanted: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in wanted}


class RerankFields(ScorerFields):
    """And what is kept of the results."""

    top_n: int | None = Field(default=3, ge=0)
    """How many results to return at most; None: all."""
    score_threshold: float | None = None
    """Return only results of at least this score, in the unit of `scale`; None: all."""

    @field_validator("top_n", mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        number = whole_number(value)
        return value if number is None else number

    @model_validator(mode="after")
    def _check_threshold(self) -> RerankFields:
        check_threshold(self.score_threshold, self._scale)
        return self

    @property
    def _scale(self) -> Scale:
        return self.scale if self.scorer is None else self.scorer.options.scale
