"""Long texts, cut by characters before they are tokenized, where the rest cannot matter.

Of a text of megabytes a few hundred tokens are kept; tokenizing all of it would take seconds and gigabytes. How a text
is split into tokens depends on little that follows. So the beginning of a long text is tokenized twice, up to two ends
that lie a prime number of characters apart: where both agree on every token that is kept, and on more after them, the
rest of the text has no part in them. Where they do not (one letter a thousand times: its tokens follow from how many
there are), four times as much is taken.
"""

from __future__ import annotations

from collections.abc import Callable

CHARACTERS_A_TOKEN = 32
"""Taken at first, for each token that is kept: real text has 1 to 5."""
SLACK = 64
"""Tokens after those that are kept that must exist: nothing changes so far before an end."""
APART = 61
"""Characters between the two ends: more than the longest token that repeats one letter, and a prime."""
MOST = 131_072
"""Characters that are tokenized of one text where no beginning settles it: about a tenth of a second."""

MOST_OF_ALL = 1 << 20
"""Characters that are tokenized of a text that has hardly any tokens (spaces, say), in a few tenths of a second."""


def beginning(text: str, kept: int, tokenize: Callable[[str], list[int]]) -> list[int]:
    """The ids of a text; of a long one the first `kept` and at least one more.

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
    """Whether it is worth looking at its beginning alone."""
    return len(text) > CHARACTERS_A_TOKEN * (kept + SLACK) + APART
