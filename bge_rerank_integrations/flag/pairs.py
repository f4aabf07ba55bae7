"""The argument of `compute_score`, as pairs of strings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from bge_rerank_integrations.ranking import Pair, checked_pairs, describe

SentencePairs = Iterable[Any]
"""A (query, passage) pair, or several: lists, tuples, arrays, an iterator. The first two entries of each are read."""


def read_pairs(sentence_pairs: SentencePairs) -> list[Pair]:
    """One pair or many; rows may have more columns.

    Raises:
        TypeError: an entry does not begin with two strings; the message names the first one.
    """
    if isinstance(sentence_pairs, str) or not isinstance(sentence_pairs, Iterable):
        raise TypeError(f"sentence_pairs is {describe(sentence_pairs)}: give a (query, passage) pair or a list of them")
    rows = list(sentence_pairs)
    if rows and isinstance(rows[0], str):
        if len(rows) > 2 and all(isinstance(part, str) for part in rows):
            warnings.warn(
                f"a list of {len(rows)} strings is read as one pair, its first two: give a list of pairs to score each",
                UserWarning,
                stacklevel=5,
            )
        rows = [rows]
    return checked_pairs([_first_two(index, row) for index, row in enumerate(rows)])


def _first_two(index: int, row: Any) -> Pair:
    if not isinstance(row, (str, bytes)):
        try:
            return row[0], row[1]
        except (IndexError, KeyError, TypeError):
            pass
    raise TypeError(f"pairs[{index}] is {describe(row)}: give a (query, text) pair")
