"""Texts without a word: image nodes, empty cells, rulers. Rerankers give them any score, and often a high one."""

from __future__ import annotations

from unicodedata import category

BLANK_LOGIT = -1000.0
"""The logit of a text without a word that is not scored: below those of every model, finite, so that JSON can hold it,
and exactly 0.0 as a sigmoid."""
WORDLESS = ("Z", "P", "Cc", "Cf", "Co", "Cs")
"""Unicode's categories of white space, punctuation, and what is not shown or has no meaning of its own."""


def is_blank(text: str) -> bool:
    """Whether a text has no letter, number or sign: nothing but white space, punctuation and what is not shown."""
    return all(category(letter).startswith(WORDLESS) for letter in text)
