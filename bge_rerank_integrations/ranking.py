"""Pairs in, a ranking out: what every scorer takes and gives, with arguments checked and named. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bge_rerank_integrations.options import Scale, whole_number

Pair = tuple[str, str]
"""A query and a text that may answer it."""


class Ranked(NamedTuple):
    """One text of a ranking: its index in the list that was given, and its score."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody looks for here
    score: float


def rank(
    logits: Sequence[float],
    top_n: int | None = None,
    score_threshold: float | None = None,
    scale: Scale = "logit",
) -> list[Ranked]:
    """Texts by logit, best first, ties in the order given.

    Above a logit of 37 every sigmoid is 1.0: the order is that of the logits, whatever the scale of what is returned.

    Args:
        logits: one a text.
        top_n: how many to return at most; None: all.
        score_threshold: return only scores of at least this, on `scale`; None: all.
        scale: of the scores that are returned.
    """
    order = sorted(range(len(logits)), key=lambda index: -logits[index])
    ranked = (Ranked(index, scaled(logits[index], scale)) for index in order)
    return [one for one in ranked if score_threshold is None or one.score >= score_threshold][:top_n]


def scaled(logit: float, scale: Scale) -> float:
    """The logit itself, or 1 / (1 + exp(-logit)), for any finite logit."""
    if scale == "logit":
        return logit
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def check_top_n(top_n: Any) -> int | None:
    """The count as an int; what is not a count is refused."""
    if top_n is None:
        return None
    number = whole_number(top_n)
    if number is None:
        raise TypeError(f"top_n={top_n!r}: use a whole number, or None for all")
    if number < 0:
        raise ValueError(f"top_n={top_n}: use 0 or more, or None for all")
    return number


def check_threshold(score_threshold: Any, scale: Scale) -> float | None:
    """The threshold as a float; one that no score can be compared with, or that all or none reach, is refused."""
    if score_threshold is None:
        return None
    try:
        number = float("nan") if isinstance(score_threshold, (str, bytes, bool)) else float(score_threshold)
    except (TypeError, ValueError):
        number = float("nan")
    if math.isnan(number):
        raise ValueError(f"score_threshold={score_threshold!r}: use a number, or None to keep all")
    if scale == "sigmoid" and math.isfinite(number) and not 0 <= number <= 1:
        raise ValueError(
            f"score_threshold={score_threshold!r}: with scale='sigmoid' scores lie between 0 and 1: use a number "
            "between them, or scale='logit'"
        )
    return number


def check_query(query: Any) -> None:
    """A TypeError unless the query is a string."""
    if not isinstance(query, str):
        raise TypeError(f"query is {describe(query)}: give a string")


def checked_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs as a list; a TypeError names the first entry that is not a pair of strings."""
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise TypeError(f"pairs is {describe(pairs)}: give a list of (query, text) pairs")
    checked = []
    for index, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise TypeError(f"pairs[{index}] is {describe(pair)}: give a (query, text) pair")
        for part, name in zip(pair, ("query", "text"), strict=True):
            if not isinstance(part, str):
                raise TypeError(f"the {name} of pairs[{index}] is {describe(part)}: give a string")
        checked.append((pair[0], pair[1]))
    return checked


def pairs_of(query: str, texts: Iterable[str]) -> list[Pair]:
    """The query with each text; a TypeError names what is not a string."""
    check_query(query)
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {describe(texts)}: give a list of strings, [text] for a single one")
    pairs = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] is {describe(text)}: give a string")
        pairs.append((query, text))
    return pairs


def describe(value: object) -> str:
    """A value and its type, as error messages show it."""
    shown = repr(value)
    return f"{shown[:40] + '...' if len(shown) > 40 else shown} of type {type(value).__name__}"
