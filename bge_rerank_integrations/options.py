"""Every option, once: which model, where it runs, how much it does at a time, and how it scores.

`load_scorer`, the adapters' fields, `evaluate`'s configurations and the table in the docs derive from these classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.option_values import (
    check_choice,
    check_switch,
    layers_of,
    metadata_choice,
    normalise_number,
    share_of,
)
from bge_rerank_integrations.option_values import whole_number as whole_number
from bge_rerank_integrations.other_names import instead
from bge_rerank_integrations.stats import Batch

if TYPE_CHECKING:
    # Adapters extend these classes and are not frozen. Type checkers let nobody extend a frozen class so: to them alone
    # the classes are plain dataclasses.
    from dataclasses import dataclass as frozen

    import torch

    Device = str | int | torch.device
    Dtype = str | torch.dtype
else:
    frozen = partial(dataclass, frozen=True)
    Device = Dtype = str  # what `device_names` and `dtype_name` make of them, without torch

Scale = Literal["logit", "sigmoid"]
HeadIndex = Literal["position", "layer"]
Blank = Literal["last", "drop", "score"]
Fusion = Literal["none", "rrf", "weighted"]
Long = Literal["truncate", "windows", "refuse"]
DTYPES = ("float32", "float16", "bfloat16", "int8")
FASTEST = "fastest"
"""The dtype that is measured when a model is loaded."""
COMPRESS_RATIOS = (1, 2, 4, 8)


ALIASES = {"fp32": "float32", "float": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}
"""Other common names of dtypes."""


def _of_a_family(default: Any) -> Any:
    """An option that only some families have; the others refuse it."""
    return field(default=default, metadata={"of_a_family": True})


@frozen
class ModelSource:
    """Which checkpoint, and where to find it."""

    model: str | os.PathLike[str]
    """Hub id, local folder, a demonstration model that comes with this package ("demo" and others), or the address of a
    server, "http://...", with `dialect`."""
    family: str | None = None
    """A name of `model.families.FAMILIES`; None: read from the checkpoint itself."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None: the hub's default."""
    cache_dir: str | os.PathLike[str] | None = None
    """Where downloads are kept; None: the hub's default."""
    local_files_only: bool = False
    """Never ask the hub."""
    token: str | bool | None = field(default=None, repr=False)
    """For private and gated models on the hub; None, True: the one in `HF_TOKEN` or of `hf auth login`; False: none. It
    is not shown, and neither saved nor pickled."""

    def __post_init__(self) -> None:
        token = self.token
        if not (token is None or isinstance(token, bool) or (isinstance(token, str) and token.isascii())):
            raise OptionError("token is neither a string of ASCII characters nor True, False or None")
        if isinstance(token, str) and (not token or not token.isprintable() or " " in token):
            raise OptionError("token is empty, or has white space or control characters: give it as the hub shows it")

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled, which must not carry secrets to where others read them."""
        return {name: value for name, value in self.__dict__.items() if name not in SECRETS}


@frozen
class Placement:
    """On which devices, in which numbers."""

    devices: Device | Sequence[Device] | None = None
    """Such as "cpu" or "cuda:0" (also 0, or a `torch.device`), or a list of them for one replica on each; None: the
    first GPU, else the CPU."""
    dtype: Dtype = "auto"
    """"float32", "float16", "bfloat16" (also torch's own), "int8"; "auto": float32 on the CPU, half precision on a
    GPU; "fastest": measured on load, see `fastest`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "devices", device_names(self.devices))
        name = dtype_name(self.dtype)
        if name not in (known := ("auto", *DTYPES, FASTEST)):
            raise OptionError(f"dtype={self.dtype!r}: use {', '.join(map(repr, known))}")
        object.__setattr__(self, "dtype", name)


@frozen
class EngineSettings:
    """How much the engine does at once, holds, and remembers."""

    token_budget: int | None = None
    """Tokens a batch may hold; None: as many as every device can take."""
    max_queued_tokens: int = 4_000_000
    """Tokens that may wait."""
    timeout: float | None = None
    """Seconds a call may take, waiting included; None: as long as it takes."""
    cache_size: int = 0
    """Scores to remember; 0: none."""
    on_batch: Callable[[Batch], object] | None = None
    """Called by a worker after each batch, for metrics and traces."""

    def __post_init__(self) -> None:
        for name, least in (("token_budget", 1), ("max_queued_tokens", 1), ("cache_size", 0)):
            if name != "token_budget" or self.token_budget is not None:
                normalise_number(self, name, least)
        object.__setattr__(self, "timeout", checked_timeout(self.timeout))


@frozen
class ServerSource:
    """How a server is talked to, where `model` is its address."""

    dialect: str | None = None
    """What its requests and answers are: "bge-rerank" (`bge-rerank serve`), "tei", "vllm", "infinity", "sglang",
    "llamacpp", "cohere", "jina", "voyage", "xinference" or "litellm"."""
    served_model: str | None = None
    """The model's name at the server, where it has several."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token. It is not shown, and neither saved nor pickled."""
    concurrency: int = 8
    """Requests in flight at a time."""

    def __post_init__(self) -> None:
        normalise_number(self, "concurrency", 1)
        check_api_key(self.api_key)


@frozen
class ScoringOptions:
    """What scores depend on besides the weights. `Scorer.with_options` changes any of them.

    The first five hold for every family; the others only for those that have them, and are refused elsewhere.
    """

    max_length: int = 512
    """Tokens kept of query and passage together; decoders: plus as many as the prompt has (see `inputs`)."""
    query_max_length: int | None = None
    """Tokens kept of the query; None: three quarters of `max_length`."""
    scale: Scale = "logit"
    """"logit": the model's own number, unbounded; "sigmoid": that number mapped into 0 to 1, in the same order."""
    query_instruction: str | None = None
    """Text put before each query; None: the family's own (decoders: "A: ")."""
    passage_instruction: str | None = None
    """Text put before each passage; None: the family's own (decoders: "B: ")."""
    prompt: str | None = _of_a_family(None)
    """Decoders: the question after each pair, as text or by a name of `prompts.PROMPTS`; None: the family's own."""
    cutoff_layer: int | None = _of_a_family(None)
    """Layerwise, lightweight: how many layers to run; None: all."""
    compress_ratio: int = _of_a_family(1)
    """Lightweight: how many neighbouring passage tokens become one, 1, 2, 4 or 8; 1: none."""
    compress_layers: int | Sequence[int] = _of_a_family((8,))
    """Lightweight: before which layers passage tokens are merged, counted from 0."""
    head_index: HeadIndex = _of_a_family("position")
    """Lightweight: which head scores a cutoff. "position", as the published scores were made: the first head for the
    first cutoff that is asked for, whatever its layer; "layer": the head trained on that layer."""
    attention_softcap: bool = _of_a_family(False)
    """Lightweight: apply the soft cap on attention that config.json names; the published scores were made without."""

    def __post_init__(self) -> None:
        for option in fields(self):
            if option.name in WHOLE_NUMBERS and not (option.default is None and getattr(self, option.name) is None):
                normalise_number(self, option.name, 1)
        check_choice(self, "scale", Scale)
        for name in TEXTS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise OptionError(f"{name}={value!r}: use a string or None")
        if self.compress_ratio not in COMPRESS_RATIOS:
            raise OptionError(f"compress_ratio={self.compress_ratio!r}: use one of {COMPRESS_RATIOS}")
        object.__setattr__(self, "compress_layers", layers_of(self.compress_layers))
        check_choice(self, "head_index", HeadIndex)
        check_switch(self, "attention_softcap")


@frozen
class RankingOptions:
    """What is done before and after scoring, by what ranks documents: `reranking.rerank` and the adapters that rank."""

    metadata_fields: str | Sequence[str] | Callable[[dict[str, Any]], str] = ()
    """Which metadata is scored before a text: keys, such as ["title"], whose values get a line each; or a template that
    ends with the text, such as "{title} ({year}): {text}"; or a function of the metadata."""
    long: Long = "truncate"
    """What to do with texts that do not fit beside the query. "truncate": their end is not read; "windows": they are
    read in windows, and the best one counts; "refuse": they are an error."""
    window_overlap: int = 64
    """Tokens at most that a window repeats of the one before it."""
    max_windows: int = 8
    """Windows of a text at most; what stands after the last one is not read."""
    blank: Blank = "last"
    """What to do with texts without a word. "last": they are not scored, and stand last; "drop": they are left out;
    "score": they are scored like any other, for better or worse."""
    deduplicate: bool = False
    """Whether to keep the best alone of texts that are equal but for white space and case."""
    fusion: Fusion = "none"
    """How the retriever's ranking counts. "none": not at all; "rrf": by the sum of reciprocal ranks; "weighted": by the
    sum of the scores, each standardised over a query's passages."""
    fusion_weight: float = 0.5
    """The retriever's share, 0 to 1; 0 is the same as no fusion."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata_fields", metadata_choice(self.metadata_fields))
        check_choice(self, "long", Long)
        normalise_number(self, "window_overlap", 0)
        normalise_number(self, "max_windows", 1)
        check_choice(self, "blank", Blank)
        check_switch(self, "deduplicate")
        check_choice(self, "fusion", Fusion)
        object.__setattr__(self, "fusion_weight", share_of(self.fusion_weight))

    @property
    def fuses(self) -> bool:
        """Whether the retriever's ranking counts."""
        return self.fusion != "none" and self.fusion_weight > 0


Group = TypeVar("Group", ModelSource, ServerSource, Placement, EngineSettings, ScoringOptions, RankingOptions)
GROUPS = (ModelSource, ServerSource, Placement, EngineSettings, ScoringOptions)
"""All options of scorers."""
SECRETS = tuple(field.name for group in GROUPS for field in fields(group) if not field.repr)
"""Options that are never shown, saved or pickled."""
API_KEY_VARIABLE = "BGE_RERANK_API_KEY"
"""The environment variable of `api_key`, for commands, servers and what they start."""


def names(group: type[Any]) -> tuple[str, ...]:
    """The options of one of `GROUPS`, in order."""
    return tuple(field.name for field in fields(group))


def pick(group: type[Group], values: Mapping[str, Any]) -> Group:
    """The options of one group out of those of several; what is not given has its default."""
    return group(**{name: values[name] for name in names(group) if name in values})


def changed(options: ScoringOptions, changes: Mapping[str, Any]) -> ScoringOptions:
    """A copy with some options changed; an unknown name is an error that lists the known ones."""
    known = names(ScoringOptions)
    for name in changes:
        if name not in known:
            hint = instead(name, known)
            raise OptionError(f"unknown option {name!r}: use {hint or 'one of ' + ', '.join(known)}")
    return replace(options, **changes)


def not_by_default(group: Any) -> dict[str, Any]:
    """The options of one of `GROUPS` that differ from their default, or have none, with their values."""
    values = {option.name: getattr(group, option.name) for option in fields(group)}
    return {option.name: values[option.name] for option in fields(group) if values[option.name] != option.default}


def foreign_options(options: ScoringOptions, own: frozenset[str]) -> dict[str, Any]:
    """The options of other families than the one with its `own` that differ from their default, with their values."""
    of_families = {option.name for option in fields(options) if option.metadata.get("of_a_family")}
    return {name: value for name, value in not_by_default(options).items() if name in of_families - own}


def _typed(group: type[Any], *annotations: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(group) if field.type in annotations)


TEXTS = _typed(ScoringOptions, "str | None")
"""Scoring options that are texts."""
WHOLE_NUMBERS = _typed(ScoringOptions, "int", "int | None")
"""Scoring options that are one whole number."""
ENGINE_NUMBERS = _typed(EngineSettings, "int", "int | None")
"""Engine settings that are one whole number."""
NUMBER_LISTS = _typed(ScoringOptions, "int | Sequence[int]")
"""Scoring options that are one whole number or several."""
SWITCHES = tuple(name for group in GROUPS for name in _typed(group, "bool"))
"""Options of all groups that are True or False."""


def checked_timeout(value: Any) -> float | None:
    """Seconds above 0; None for no end, which infinity is, too."""
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    except OverflowError:  # a whole number of hundreds of digits
        seconds = math.inf if value > 0 else math.nan
    if not seconds > 0:
        raise OptionError(f"timeout={value!r}: use seconds above 0, or None for as long as it takes")
    return None if seconds == math.inf else seconds


def check_api_key(key: object) -> None:
    """Refuse what no header carries, such as the line break at the end of a file, without showing it."""
    if key is not None and not (
        isinstance(key, str) and key.isascii() and key.isprintable() and key.strip() == key != ""
    ):
        raise OptionError(
            "api_key is not a string, is empty, begins or ends with white space, or has characters other than "
            "printable ASCII: give it as the server's owner did"
        )


def device_names(devices: Any) -> Any:
    """Devices as text: 1 is "cuda:1", and a `torch.device` is its name. What is neither is left for an error later."""
    if devices is None or isinstance(devices, str):
        return devices
    if isinstance(devices, Iterable):
        return tuple(device_names(device) for device in devices)
    number = whole_number(devices)
    if number is not None:
        return f"cuda:{number}"
    return str(devices) if type(devices).__module__ == "torch" else devices


def dtype_name(dtype: Any) -> str:
    """A dtype as text, whether torch's own or one of its common names."""
    name = str(dtype).removeprefix("torch.")
    return ALIASES.get(name, name) if isinstance(dtype, str) or name in DTYPES else repr(dtype)
