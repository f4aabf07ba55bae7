"""Long texts in windows: overlapping stretches that fit beside the query, cut between sentences where there are any.

A text that fits is one window, itself. Tokens are measured by a `Ruler`: the model's own tokenizer or, for models that
run elsewhere, an estimate by characters.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Span = tuple[int, int]
"""The first character, and the one after the last."""

SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+|[。！？．｡]+[”’」』）]*\s*|\n+")
WORD_END = re.compile(r"\s+")
SLACK = 4
"""Tokens left free: a window by itself can have a few more than it has within its text."""
CHARACTERS_A_TOKEN = 8
"""Characters that are looked at for each token of the most windows: real text has 1 to 5."""


class Ruler(Protocol):
    """Measures texts in tokens."""

    @property
    def exact(self) -> bool:
        """Whether these are the model's own tokens, rather than an estimate."""

    def room(self, query: str) -> int:
        """How many tokens of a passage are read beside the query."""

    def tokens(self, text: str) -> list[Span]:
        """The characters of each token, in order."""


@dataclass(frozen=True)
class CharacterRuler:
    """An estimate on the safe side: three ASCII characters, or one of another kind, are a token."""

    max_length: int
    exact: bool = False

    def room(self, query: str) -> int:
        kept = min(len(self.tokens(query)), self.max_length * 3 // 4)
        return max(1, self.max_length - kept - 8)  # special tokens

    def tokens(self, text: str) -> list[Span]:
        return [part.span() for part in re.finditer(r"[\x00-\x7f]{1,3}|.", text, re.DOTALL)]


def fits(text: str, room: int, ruler: Ruler) -> bool:
    """Whether all of a text is read."""
    return len(text) <= room or len(ruler.tokens(text)) <= room


def windows(text: str, head: str, room: int, overlap: int, most: int, ruler: Ruler) -> list[Span]:
    """The windows of a text that is scored after a head, in order.

    Args:
        room: tokens that head and window may have together.
        overlap: tokens at most that a window repeats of the one before; no more than a quarter of the room is.
        most: windows at most: what stands after the last is not read.
    """
    looked_at = text[: most * room * CHARACTERS_A_TOKEN]
    if looked_at == text and fits(head + text, room, ruler):
        return [(0, len(text))]
    free = max(1, room - len(ruler.tokens(head)) - SLACK)
    return _cut(looked_at, ruler.tokens(looked_at), free, min(overlap, free // 4), most)


def short_head(head: str, room: int, ruler: Ruler) -> str:
    """What is read of a head: at most half of the room, so that the text has the other half."""
    tokens = ruler.tokens(head)
    return head if len(tokens) <= room // 2 else head[: tokens[room // 2][0]]


def _cut(text: str, tokens: Sequence[Span], size: int, overlap: int, most: int) -> list[Span]:
    starts = [start for start, _ in tokens]
    sentences = [end.end() for end in SENTENCE_END.finditer(text)]
    words = [end.end() for end in WORD_END.finditer(text)]
    found: list[Span] = []
    start = 0
    while starts and len(found) < most:
        first = max(0, bisect_right(starts, start) - 1)  # the token with this letter
        after = min(first + size, len(tokens))
        end = max(tokens[after - 1][1], start + 1)
        if after < len(tokens):
            middle = max(tokens[first + (after - first) // 2][0], start)
            end = _last_within(sentences, middle, end) or _last_within(words, middle, end) or end
        kept = text[start:end].rstrip()
        if kept:
            found.append((start, start + len(kept)))
        if after == len(tokens):
            break
        back = max(tokens[max(first, bisect_left(starts, end) - overlap)][0], start + 1)
        start = _first_within(sentences, back, end) or _first_within(words, back, end) or end
    return found or [(0, len(text))]


def _last_within(breaks: Sequence[int], low: int, high: int) -> int | None:
    """The last place above `low`, up to `high`."""
    at = bisect_left(breaks, high + 1) - 1
    return breaks[at] if at >= 0 and breaks[at] > low else None


def _first_within(breaks: Sequence[int], low: int, high: int) -> int | None:
    """The first place from `low` on, up to `high`."""
    at = bisect_left(breaks, low)
    return breaks[at] if at < len(breaks) and breaks[at] <= high else None
