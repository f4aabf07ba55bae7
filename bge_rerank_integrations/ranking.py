"""Arguments of calls, checked: a wrong one is a TypeError or ValueError that names it, its index and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bge_rerank_integrations.model.inputs import Pair


def check_top_n(top_n: object) -> None:
    """Refuse what is no count."""
    if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool)):
        raise TypeError(f"top_n={top_n!r}: use a whole number, or None for all")
    if top_n is not None and top_n < 0:
        raise ValueError(f"top_n={top_n}: use 0 or more, or None for all")


def checked_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs as a list, or a TypeError that names the first that is none."""
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise TypeError(f"pairs is {said(pairs)}: give a list of (query, text) pairs")
    checked = []
    for index, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise TypeError(f"pairs[{index}] is {said(pair)}: give a (query, text) pair")
        for part, name in zip(pair, ("query", "text"), strict=True):
            if not isinstance(part, str):
                raise TypeError(f"the {name} of pairs[{index}] is {said(part)}: give a string")
        checked.append((pair[0], pair[1]))
    return checked


def pairs_of(query: str, texts: Sequence[str]) -> list[Pair]:
    if not isinstance(query, str):
        raise TypeError(f"query is {said(query)}: give a string")
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {said(texts)}: give a list of strings, [text] for a single one")
    pairs = []
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] is {said(text)}: give a string")
        pairs.append((query, text))
    return pairs


def said(value: object) -> str:
    shown = repr(value)
    return (
        f"{shown[:40]}... of type {type(value).__name__}"
        if len(shown) > 40
        else f"{shown} of type {type(value).__name__}"
    )
