"""What the adapters share: the options of `load_scorer` as fields, and a scorer that is loaded on first use."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import Field as Option
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.lazy import LazyScorer
from bge_rerank_integrations.model.families import check_family
from bge_rerank_integrations.options import (
    ENGINE_NUMBERS,
    GROUPS,
    NUMBER_LISTS,
    SECRETS,
    WHOLE_NUMBERS,
    EngineSettings,
    ModelSource,
    Placement,
    ScoringOptions,
    ServerSource,
    checked_timeout,
    device_names,
    dtype_name,
    names,
    pick,
    whole_number,
)
from bge_rerank_integrations.other_names import OPTIONS, instead
from bge_rerank_integrations.protocol import ScorerProtocol, missing_methods
from bge_rerank_integrations.ranking import describe
from bge_rerank_integrations.stats import Stats

logger = logging.getLogger(__name__)


def field_of(option: Option[Any]) -> Any:
    """An option as a field, with its default as it is read back from JSON. A secret is neither shown nor written."""
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    return Field(default=default, exclude=not option.repr, repr=option.repr)


if TYPE_CHECKING:
    from typing_extensions import Self

    class _Options(BaseModel, ScoringOptions, EngineSettings, Placement, ServerSource, ModelSource):
        """Type checkers see the options as fields of a model, which is what the other branch makes of them."""
else:
    _Options = create_model(
        "_Options",
        **{
            option.name: (get_type_hints(group)[option.name], field_of(option))
            for group in GROUPS
            for option in fields(group)
            if option.name != "model"
        },
    )

SCORING_FIELDS = names(ScoringOptions)
LOADING_FIELDS = tuple(name for group in GROUPS for name in names(group) if name not in ("model", *SCORING_FIELDS))


RANKING = ("top_n", "score_threshold")
"""What a ranking is cut by, and scores alone are not."""


class ScorerFields(_Options):
    """Which model, and how it scores: the arguments of `load_scorer` as fields. Nothing is loaded before first use.

    What cannot be is an `OptionError`, whether it is given to the constructor, set, or asked of a copy.
    """

    model_config = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        validate_assignment=True,
        ser_json_inf_nan="constants",  # a threshold of infinity must not be read back as none
        hide_input_in_errors=True,  # or an error about one field would show all, `token` too
    )

    model: str | None = Field(default=None, min_length=1)  # type: ignore[assignment]
    """Hub id, folder or "demo", as in `load_scorer`; with an injected `scorer`, its name in events."""
    scorer: ScorerProtocol | None = Field(default=None, exclude=True, repr=False)
    """A scorer that is already loaded, in place of `model` and the options below."""
    on_batch: Callable[[Any], object] | None = Field(default=None, exclude=True, repr=False)

    _lazy: LazyScorer = PrivateAttr(default_factory=LazyScorer)
    _told: list[int] = PrivateAttr(default_factory=list)
    """How many texts had been cut when that was told; copies share it."""

    if not TYPE_CHECKING:  # type checkers make the signature from the fields

        def __init__(self, *unnamed: Any, **values: Any) -> None:
            if unnamed:
                raise TypeError(f"{type(self).__name__} takes its fields by name, such as model={unnamed[0]!r}")
            with _one_line():
                super().__init__(**values)

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any) -> Any:
        """Refuse unknown names; where one is known from another reranker, say what it is called here."""
        unknown = [name for name in values if name not in cls.model_fields] if isinstance(values, Mapping) else []
        if unknown:
            raise ValueError("; ".join(map(cls._not_a_field, unknown)))
        return values

    @classmethod
    def _not_a_field(cls, name: str) -> str:
        known = [field for field in cls.model_fields if field != "callback_manager"]  # which engines set
        hint = instead(name, known) or "one of " + ", ".join(known)
        if (cut := OPTIONS.get(name, name)) in RANKING and cut not in known:
            hint = f"{cut} of what ranks, such as BGERerank"
        return f"{name} is not a field of {cls.__name__}: use {hint}"

    @field_validator("model", "cache_dir", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """A path as a string, so that adapters can be written as JSON."""
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("model", mode="before")
    @classmethod
    def _is_name(cls, value: object) -> object:
        if value is None or isinstance(value, (str, os.PathLike)):
            return value
        raise ValueError(f"model={describe(value)}: give a hub id or a folder; what load_scorer returned is scorer=")

    @field_validator("devices", mode="before")
    @classmethod
    def _as_names(cls, value: object) -> object:
        """0 as "cuda:0", a `torch.device` as its name."""
        devices = device_names(value)
        several = list(devices) if isinstance(devices, tuple) else [devices]
        if devices is not None and not all(isinstance(device, str) for device in several):
            raise ValueError(f"devices={value!r}: use a name such as 'cpu' or 'cuda:0', a number, or a list of them")
        return several if isinstance(devices, tuple) else devices

    @field_validator("dtype", mode="before")
    @classmethod
    def _as_name(cls, value: object) -> object:
        return dtype_name(value)

    @field_validator(*WHOLE_NUMBERS, *ENGINE_NUMBERS, mode="before")
    @classmethod
    def _as_number(cls, value: object, info: ValidationInfo) -> object:
        """numpy's numbers as Python's, which JSON and YAML can hold."""
        return count_of(value, str(info.field_name))

    @field_validator("timeout", mode="before")
    @classmethod
    def _as_seconds(cls, value: object) -> object:
        return checked_timeout(value)

    @field_validator(*NUMBER_LISTS, mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """A list, as it is read back from JSON."""
        if whole_number(value) is not None:
            return [value]
        return list_of(value)

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
        for group in (ServerSource, Placement, EngineSettings, ScoringOptions):
            pick(group, values)  # type: ignore[type-var]
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field if the result makes sense; pydantic alone would leave a refused value in place."""
        before = {"__dict__": dict(self.__dict__), "__pydantic_fields_set__": set(self.model_fields_set)}
        with _one_line():
            try:
                super().__setattr__(name, value)
            except ValidationError:
                for attribute, content in before.items():
                    object.__setattr__(self, attribute, content)
                raise

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """The fields, to make an equal adapter from."""
        self._check_savable()
        return super().model_dump(**kwargs)

    def model_dump_json(self, **kwargs: Any) -> str:
        """The fields as JSON, to make an equal adapter from."""
        self._check_savable()
        return super().model_dump_json(**kwargs)

    @field_serializer("model")
    def _model_as_saved(self, model: str | None) -> str | None:
        """The name; a model that holds the adapter saves it without calling `model_dump` above."""
        self._check_savable()
        return model

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
        if self.model is not None and self.scorer is None:
            copied._lazy = self._lazy.shared(self.model, self._values(LOADING_FIELDS))
        return copied

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the loaded model, unless `deep`; `update` is validated as the constructor's arguments."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        checked = type(self)(**{**given, **update}) if update else self
        return super().model_copy(update={name: getattr(checked, name) for name in update or ()}, deep=deep)

    def with_options(self, **changes: Any) -> Self:
        """A copy with other fields that shares the loaded model: for one request's own settings, say.

        Threads can each make theirs, while setting a field of a shared adapter would change it for all.
        """
        return self.model_copy(update=changes)

    def warm_up(self) -> None:
        """Load the model now rather than at the first query."""
        self._ready()

    def close(self) -> None:
        """Free a model that this adapter loaded; the next use loads it again. An injected scorer stays open."""
        self._lazy.close()

    @property
    def truncated_pairs(self) -> int | None:
        """How many texts were cut since the model was loaded; 0 before, None where a server scores."""
        used = self._used()
        return 0 if used is None else getattr(used, "truncated_pairs", None)

    def stats(self) -> Stats | None:
        """What the model has scored since it was loaded; None before, and where a server scores."""
        told = getattr(self._used(), "stats", None)
        return None if told is None else told()

    def _used(self) -> ScorerProtocol | None:
        return self._lazy.loaded() if self.scorer is None else self.scorer

    @contextmanager
    def _telling_of_cuts(self, scorer: ScorerProtocol, remedy: str) -> Iterator[None]:
        """Log, once for this adapter and its copies, that texts were cut meanwhile."""
        before = getattr(scorer, "truncated_pairs", 0)
        yield
        cut = getattr(scorer, "truncated_pairs", 0) - before
        if cut and not self._told:
            self._told.append(cut)
            logger.warning(
                "%s: %s texts of this call were longer, with their query, than the tokens that are read (max_length), "
                "and their ends were cut: %s. truncated_pairs goes on counting",
                type(self).__name__,
                f"{cut:,}",
                remedy,
            )

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


@contextmanager
def _one_line() -> Iterator[None]:
    """Say what pydantic found in one line, each value by name."""
    try:
        yield
    except ValidationError as error:
        found = error.errors(include_url=False)
        said = [_said(one) for i, one in enumerate(found) if one["loc"][:1] not in [e["loc"][:1] for e in found[:i]]]
        raise OptionError("; ".join(said)) from None


def _said(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])  # our own, which names the value
    if error["type"] == "no_such_attribute":
        return f"there is no field {error['ctx']['attribute']} to set"
    name = error["loc"][0]
    value = "" if name in SECRETS else f"={describe(error['input'])}"
    return f"{name}{value}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def list_of(value: object) -> object:
    """What holds several values, as the list that is read back from JSON; anything else as it is."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else value


def count_of(value: object, name: str) -> object:
    """The number as Python's; what is none is left for pydantic, which would take True for 1."""
    if isinstance(value, bool):
        raise ValueError(f"{name}={value}: use a whole number")
    number = whole_number(value)
    return value if number is None else number
