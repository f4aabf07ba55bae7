"""Values of options: each check normalises one, or refuses it by name with what would do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from bge_rerank_integrations.errors import OptionError

TEXT_PLACE = "{text}"
"""Where a template of `metadata_fields` has the text."""


def whole_number(value: object) -> int | None:
    """The value as an int if it is a whole number of any kind, numpy's included; else None. A bool is none."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_choice(options: Any, name: str, choices: Any) -> None:
    value, known = getattr(options, name), get_args(choices)
    if not isinstance(value, str) or value not in known:
        *others, last = map(repr, known)
        raise OptionError(f"{name}={value!r}: use {', '.join(others)} or {last}")


def check_switch(options: Any, name: str) -> None:
    value = getattr(options, name)
    if not isinstance(value, bool):
        raise OptionError(f"{name}={value!r}: use True or False")


def normalise_number(options: Any, name: str, least: int) -> None:
    value = getattr(options, name)
    number = whole_number(value)
    if number is None or number < least:
        raise OptionError(f"{name}={value!r}: use a whole number of {least} or more")
    object.__setattr__(options, name, number)


def share_of(value: Any) -> float:
    """A number from 0 to 1."""
    try:
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise OptionError(f"fusion_weight={value!r}: use a number from 0 (the reranker alone) to 1")
    return number


def metadata_choice(value: Any) -> str | tuple[str, ...] | Callable[[dict[str, Any]], str]:
    if callable(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str):
        if value.endswith(TEXT_PLACE) and value.count(TEXT_PLACE) == 1:
            return value
        raise OptionError(
            f"metadata_fields={value!r}: a template ends with {TEXT_PLACE}, since what is too long is cut at its "
            "end; a single key stands in a list, such as ['title']"
        )
    keys = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)) else (None,)
    if not all(isinstance(key, str) and key for key in keys):
        raise OptionError(f"metadata_fields={value!r}: use a list of keys, a template or a function")
    return keys


def layers_of(value: object) -> tuple[int, ...]:
    values = [value] if whole_number(value) is not None else value
    numbers = (
        [whole_number(number) for number in values]
        if isinstance(values, Iterable) and not isinstance(values, (str, bytes))
        else [None]
    )
    checked = [number for number in numbers if number is not None and number >= 0]
    if len(checked) < len(numbers):
        raise OptionError(f"compress_layers={value!r}: use layer numbers of 0 or more, such as (8,)")
    return tuple(sorted(set(checked)))
