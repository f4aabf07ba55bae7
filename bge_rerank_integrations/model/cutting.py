"""Long texts, cut by characters before they are tokenized, if this cannot change the tokens that are kept.

Of a text of megabytes a few hundred tokens are kept; tokenizing all of it would take seconds and gigabytes. How a text
is split into tokens depends on a few characters after each token only. So the beginning of a long text is tokenized
twice, with two ends that are a prime number of characters apart. If both give the same kept tokens, and enough more
after them, the rest of the text does not change them. Otherwise (one letter a thousand times: its tokens depend on how
many there are) four times as many characters are taken.
"""

from __future__ import annotations

from collections.abc import Callable

CHARACTERS_A_TOKEN = 32
"""Characters taken at first for each kept token: real text has 1 to 5."""
SLACK = 64
"""Tokens that must follow the kept ones: an end changes no token so far before it."""
APART = 61
"""Characters between the two ends: a prime, and more than the longest token that repeats one letter."""
MOST = 131_072
"""Characters to tokenize at most if the two ends never agree: about a tenth of a second."""

MOST_OF_ALL = 1 << 20
"""Characters that are tokenized of a text that has hardly any tokens (spaces, say), in a few tenths of a second."""


def beginning(text: str, kept: int, tokenize: Callable[[str], list[int]]) -> list[int]:
    """The token ids of a text; of a long text, the first `kept` and at least one more.

    Args:
        kept: how many ids the caller keeps.
        tokenize: gives the ids of a whole text.
    """
    size = CHARACTERS_A_TOKEN * (kept + SLACK)
    while size + APART < len(text):
        ids = tokenize(text[: size + APART])
        if (size >= MOST and len(ids) > kept) or size >= MOST_OF_ALL:
            return ids[: kept + 1]
        if len(ids) >= kept + SLACK and ids[: kept + 1] == tokenize(text[:size])[: kept + 1]:
            return ids[: kept + 1]
        size *= 4
    return tokenize(text)


def is_long(text: str, kept: int) -> bool:
    """Whether a text is so long that `beginning` should look at its beginning only."""
    return len(text) > CHARACTERS_A_TOKEN * (kept + SLACK) + APART
