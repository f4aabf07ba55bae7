"""Pairs in, a ranking out: what every scorer takes and gives, with arguments checked and named. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Pair = tuple[str, str]
"""A query and a text that may answer it."""


class Ranked(NamedTuple):
    """One text of a ranking: its index in the list that was given, and its score."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody looks for here
    score: float


def rank(scores: Sequence[float], top_n: int | None = None, score_threshold: float | None = None) -> list[Ranked]:
    """Scores best first, ties in the order given; those of at least `score_threshold`, and of them `top_n`."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    kept = [Ranked(i, scores[i]) for i in order if score_threshold is None or scores[i] >= score_threshold]
    return kept[:top_n]


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair once, so that equal pairs get scores that are equal to the last bit and ties keep their order."""
    return list(dict.fromkeys(pairs))


def sigmoid(score: float) -> float:
    """1 / (1 + exp(-score)), for any finite score."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def check_top_n(top_n: object) -> None:
    """Refuse a `top_n` that is not a count."""
    if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool)):
        raise TypeError(f"top_n={top_n!r}: use a whole number, or None for all")
    if top_n is not None and top_n < 0:
        raise ValueError(f"top_n={top_n}: use 0 or more, or None for all")


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
    if not isinstance(query, str):
        raise TypeError(f"query is {describe(query)}: give a string")
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
