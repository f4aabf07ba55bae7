"""What is compared: models with options, written as `demo,max_length=256` or listed in a TOML or JSON file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError, OptionError
from bge_rerank_integrations.options import (
    API_KEY_VARIABLE,
    NUMBER_LISTS,
    SECRETS,
    SWITCHES,
    TEXTS,
    WHOLE_NUMBERS,
    ModelSource,
    Placement,
    RankingOptions,
    ScoringOptions,
    ServerSource,
    names,
    not_by_default,
    pick,
)
from bge_rerank_integrations.textfiles import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPTIONS = names(ScoringOptions)
LOADING = tuple(
    name
    for group in (Placement, ModelSource, ServerSource)
    for name in names(group)
    if name not in ("model", "concurrency", *SECRETS)
)
RANKING = ("long", "window_overlap", "max_windows", "fusion", "fusion_weight")
"""Ranking options: of the others, BEIR's texts have their titles, and neither blank texts nor copies."""
SWEPT = (*WHOLE_NUMBERS, "window_overlap", "max_windows")
"""Options that are one whole number: several make several configurations."""
CHOSEN = "chosen"
"""The `fusion_weight` of a configuration for which it is chosen: for each half of the queries on the other half."""
FIRST_STAGE = "first stage"
"""The name of the row without a reranker; no configuration may have it."""
KEYS = (*OPTIONS, *RANKING, *LOADING, "name")
Given = str | os.PathLike[str] | Mapping[str, Any]
_BOOLEANS = {"true": True, "false": False}
_NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Loading:
    """What configurations must have in common to share one loaded model."""

    source: ModelSource
    placement: Placement
    server: ServerSource

    def arguments(self) -> dict[str, Any]:
        """The arguments for `load_scorer`."""
        key = os.environ.get(API_KEY_VARIABLE) if self.server.dialect else None
        return asdict(self.source) | asdict(self.placement) | asdict(self.server) | {"api_key": key}


@dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    name: str
    loading: Loading
    options: ScoringOptions
    ranking: RankingOptions = RankingOptions()  # noqa: RUF009 - frozen
    weight_is_chosen: bool = False
    """Whether `ranking.fusion_weight` stands for one that is to be chosen."""

    @property
    def run_file(self) -> str:
        """The name of its run file, with characters that every file system allows."""
        return _file(self.name)

    def settings(self) -> dict[str, Any]:
        """The model, and every option that does not have its default."""
        chosen: dict[str, Any] = {"model": self.loading.source.model}
        for part in (self.loading.source, self.loading.placement, self.loading.server, self.options, self.ranking):
            for name, value in not_by_default(part).items():
                if name not in SECRETS:
                    chosen[name] = list(value) if isinstance(value, tuple) else value
        return chosen | ({"fusion_weight": CHOSEN} if self.weight_is_chosen else {})


def read_configurations(given: Given | Iterable[Given]) -> list[Configuration]:
    """Every configuration, in the order given, each with its own name.

    Args:
        given: one of these or several: strings such as "demo,max_length=128+256" or "PATH,cutoff_layer=8-12", paths of
            TOML or JSON files with a list under `configuration`, or dictionaries with the same keys: name, and the
            fields of `ModelSource`, `Placement` and `ScoringOptions`. Several values of an option that is one whole
            number, such as cutoff_layer, make several configurations.

    Raises:
        OptionError: a key is unknown, a value is impossible, or a configuration is given twice.
    """
    found: list[Configuration] = []
    for entry in [given] if isinstance(given, (str, os.PathLike, Mapping)) else given:
        for settings in [entry] if isinstance(entry, Mapping) else _entries(os.fspath(entry)):
            found += _expanded(dict(settings))
    if not found:
        raise OptionError("no configuration: name at least one, such as 'demo' or 'BAAI/bge-reranker-v2-m3'")
    names = [FIRST_STAGE, *(configuration.name for configuration in found)]
    files = [_file(name).lower() for name in names]  # some file systems ignore case
    for index, (name, file) in enumerate(zip(names, files, strict=True)):
        if file in files[:index]:
            other = names[files.index(file)]
            raise OptionError(f"two configurations are called {name!r} and {other!r}: tell them apart with name=...")
    return found


def _file(name: str) -> str:
    plain = re.sub(r"[^\w.,=+-]+", "_", name)
    if len(plain.encode()) > 100:  # file systems take 255 bytes
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = f"{plain.encode()[:100].decode(errors='ignore')}-{digest}"
    return plain + ".run"


def _entries(text: str) -> list[Mapping[str, Any]]:
    if text.endswith((".toml", ".json")):
        return _read(Path(text))
    model, *rest = text.split(",")
    settings: dict[str, Any] = {"model": model.strip()}
    for part in rest:
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise OptionError(f"{text!r}: {part!r} is not KEY=VALUE; write a text with commas in a TOML file")
        if key in settings:
            raise OptionError(f"{text!r}: {key} is given twice")
        settings[key] = _value(key, value)
    return [settings]


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        content: Any = read_text(path)
        content = tomllib.loads(content) if path.suffix == ".toml" else json.loads(content)
    except DataError as error:
        raise OptionError(str(error)) from error
    except (ValueError, RecursionError) as error:  # of JSON and of TOML
        raise OptionError(f"{path} is not {path.suffix[1:].upper()}: {error}") from error
    entries = content.get("configuration") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise OptionError(f"{path} has no list of configurations: write [[configuration]] above each")
    return entries


def _value(key: str, text: str) -> Any:
    """A value from a string. Only texts that models read keep white space at their ends."""
    if key not in TEXTS:
        text = text.strip()
    if key in (*SWEPT, *NUMBER_LISTS):
        return _numbers(key, text)
    if key in SWITCHES:
        return _BOOLEANS.get(text.lower(), text)
    if key == "fusion_weight" and text != CHOSEN:
        return _shares(text)
    return text.split("+") if key == "devices" else text


def _shares(text: str) -> float | list[float]:
    """ "0.5" is a number, "0.3+0.5" a list."""
    try:
        found = [float(part) for part in text.split("+")]
    except ValueError as error:
        raise OptionError(
            f"fusion_weight={text!r}: use a number from 0 to 1, a list such as 0.3+0.5, or {CHOSEN}"
        ) from error
    return found if len(found) > 1 else found[0]


def _numbers(key: str, text: str) -> int | list[int]:
    """ "4" is a number, "2-8" and "2+4+8" are lists."""
    found: list[int] = []
    for part in text.split("+"):
        match = _NUMBERS.fullmatch(part.strip())
        if match is None:
            raise OptionError(f"{key}={text!r}: use a number, a range such as 2-8, or a list such as 2+4+8")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 1000:
            raise OptionError(f"{key}={text!r}: the range {part.strip()} goes down or is too long")
        found += range(first, last + 1)
    return found if len(found) > 1 or key in NUMBER_LISTS else found[0]


def _expanded(settings: dict[str, Any]) -> list[Configuration]:
    """One configuration for each combination of the options with several values."""
    for key in settings:
        if key in SECRETS:
            raise OptionError(
                f"{key} is no setting of a configuration, since those are written down: set HF_TOKEN or "
                f"{API_KEY_VARIABLE}"
            )
        if key not in ("model", *KEYS):
            raise OptionError(f"{key!r} is not a setting of a configuration: use model, {', '.join(KEYS)}")
    if isinstance(settings.get("model"), os.PathLike):
        settings["model"] = os.fspath(settings["model"])
    if not isinstance(settings.get("model"), str) or not settings["model"]:
        raise OptionError(f"a configuration has no model: {settings}")
    for key in SWEPT:
        if isinstance(settings.get(key), str):
            settings[key] = _numbers(key, settings[key])
        if isinstance(settings.get(key), (tuple, range)):
            settings[key] = list(settings[key])
        if settings.get(key) == []:
            raise OptionError(f"{key}=[] makes no configuration: give at least one value, or leave it out")
    swept = [key for key in (*SWEPT, "fusion_weight") if isinstance(settings.get(key), list)]
    name = settings.pop("name", None)
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise OptionError(f"name={name!r}: use a text")
    found = []
    for values in product(*(settings[key] for key in swept)):
        single = settings | dict(zip(swept, values, strict=True))
        named = [key for key in single if key != "model"] if name is None else swept
        parts = [name or _short(single["model"]), *(f"{key}={_shown(single[key])}" for key in named)]
        chosen = single.get("fusion_weight") == CHOSEN
        ranking = pick(RankingOptions, {key: single[key] for key in RANKING if key in single and single[key] != CHOSEN})
        if "fusion_weight" in single and ranking.fusion == "none":
            raise OptionError(f"fusion_weight={single['fusion_weight']!r} has no effect: add fusion=rrf or weighted")
        found.append(Configuration(",".join(parts), _loading(single), pick(ScoringOptions, single), ranking, chosen))
    return found


def _loading(settings: Mapping[str, Any]) -> Loading:
    chosen = {key: settings[key] for key in ("model", *LOADING) if key in settings}
    if isinstance(devices := chosen.get("devices"), str):
        chosen["devices"] = (devices,)
    elif isinstance(devices, list):
        chosen["devices"] = tuple(devices)
    for key, value in chosen.items():
        values = value if isinstance(value, tuple) else (value,)
        if key in SWITCHES:
            if not isinstance(value, bool):
                raise OptionError(f"{key}={value!r}: use true or false")
        elif value is not None and not all(isinstance(part, str) for part in values):
            raise OptionError(f"{key}={value!r}: use a text")
    return Loading(pick(ModelSource, chosen), pick(Placement, chosen), pick(ServerSource, chosen))


def _short(model: str) -> str:
    """The last part of a hub id or of a path."""
    return Path(model).expanduser().name or model


def _shown(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
