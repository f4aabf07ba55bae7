"""Which text is scored: a document's own, with some of its metadata before it.

The document's own text stands last: what is too long is cut at its end, and never loses its title.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bge_rerank_integrations.option_values import TEXT_PLACE
from bge_rerank_integrations.ranking import describe

KEY = re.compile(r"\{([^{}]+)\}")


class Passage(NamedTuple):
    """A text to rank."""

    text: str
    head: str = ""
    """What is scored before the text, such as a title."""
    retrieval_score: float | None = None
    """The retriever's own score, higher is better; None: unknown."""

    @property
    def scored(self) -> str:
        """What the model reads."""
        return self.head + self.text


def heads(
    metadata: Sequence[Mapping[Any, Any]], metadata_fields: str | Sequence[str] | Callable[[dict[str, Any]], str]
) -> list[str]:
    """What is scored before each document's own text.

    A key that a document does not have, or that is None there, adds nothing. If no document has any of the keys, which
    is perhaps a slip of the pen, that is a warning with the keys that there are.

    Args:
        metadata: of each document; left as it is.
        metadata_fields: see `options.RankingOptions`. A function gets a copy; what it returns has lines of its own.

    Raises:
        TypeError: a function returned something else than a string.
    """
    if callable(metadata_fields):
        return [_line(_returned(metadata_fields(dict(one)))) for one in metadata]
    if isinstance(metadata_fields, str):
        template = metadata_fields.removesuffix(TEXT_PLACE)
        _check_known(KEY.findall(template), metadata)
        return [KEY.sub(lambda place, one=one: _shown(one.get(place[1])), template) for one in metadata]  # type: ignore[misc]
    _check_known(metadata_fields, metadata)
    return ["".join(_line(_shown(one.get(key))) for key in metadata_fields) for one in metadata]


def _line(text: str) -> str:
    return f"{text}\n" if text else ""


def _shown(value: Any) -> str:
    """A value as text; of a list, its values with commas."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value).strip()


def _returned(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f'metadata_fields returned {describe(value)}: return a string, "" for nothing')
    return value


def _check_known(keys: Sequence[str], metadata: Sequence[Mapping[Any, Any]]) -> None:
    if keys and metadata and not any(key in one for one in metadata for key in keys):
        known = sorted({str(key) for one in metadata for key in one})
        warnings.warn(
            f"metadata_fields: none of {len(metadata)} documents has {', '.join(map(repr, keys))} in its metadata, "
            f"which has {', '.join(map(repr, known[:10])) or 'nothing'}",
            UserWarning,
            stacklevel=2,
        )
