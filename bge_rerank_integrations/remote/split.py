"""Pairs as requests that a server takes: one query each, within its limits, and who each text is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bge_rerank_integrations.ranking import Pair, describe
from bge_rerank_integrations.remote.dialects import Dialect

OVERHEAD = 4096
"""Bytes kept free for the rest of a request's body."""


@dataclass(frozen=True)
class Part:
    """The texts of one request, and the index of each among the pairs of the call."""

    query: str
    texts: list[str]
    indices: list[int]


def split(pairs: Sequence[Pair], dialect: Dialect) -> Iterator[Part]:
    """The pairs in requests, queries in the order in which they first come.

    Raises:
        ValueError: a query or a text cannot be sent to such a server; names its index.
    """
    by_query: dict[str, list[int]] = {}
    for index, (query, _) in enumerate(pairs):
        by_query.setdefault(query, []).append(index)
    for query, indices in by_query.items():
        room = dialect.content_bytes - OVERHEAD - _size(query)
        texts: list[str] = []
        taken: list[int] = []
        size = 0
        for index in indices:
            text = _sendable(pairs[index], index, dialect)
            length = _size(text)
            if length > room:
                raise ValueError(
                    f"the text of pair {index} has {length:,} bytes as JSON, and a request to this server may have "
                    f"{dialect.content_bytes:,}: shorten it, a model reads a few thousand characters"
                )
            if texts and (len(texts) == dialect.texts or size + length > room):
                yield Part(query, texts, taken)
                texts, taken, size = [], [], 0
            texts.append(text)
            taken.append(index)
            size += length
        yield Part(query, texts, taken)


def _sendable(pair: Pair, index: int, dialect: Dialect) -> str:
    query, text = pair
    if dialect.refuses_blanks and not (query.strip() and text.strip()):
        what = "query" if not query.strip() else "text"
        raise ValueError(
            f"the {what} of pair {index} is {describe(pair[0 if what == 'query' else 1])}, and this server refuses "
            f"blank ones: leave it out"
        )
    if dialect.blank is not None and not text.strip():
        return dialect.blank
    return text if dialect.text_characters is None else text[: dialect.text_characters]


def _size(text: str) -> int:
    """Bytes of a text in JSON, at most: as UTF-8, quotes and line breaks escaped."""
    return len(text.encode("utf-8", "replace")) + text.count("\n") + text.count('"') + text.count("\\") + 8
