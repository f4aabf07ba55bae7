"""What a row holds, under which names, and what is wrong with those that cannot be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.textfiles import checked_text, shortened

IdType = Literal["string", "int64", "uint64"]
PASSAGES = ("passage", "passages")


@dataclass(frozen=True)
class Columns:
    """The names of columns, or of keys in JSON lines."""

    id: str = "id"
    query: str = "query"
    passage: str | None = None
    """Holds a text or a list of texts; None: "passage" or "passages", whichever there is."""


@dataclass(frozen=True)
class Shape:
    """How the rows of a data set are built; all its files must agree."""

    id: str
    query: str
    passage: str
    several: bool
    """Whether a row has a list of passages, and its output a list of scores."""
    id_type: IdType
    """Of the output's ids in Parquet; JSON lines carry them as they are."""


class Row(NamedTuple):
    """One row of the input."""

    place: int
    """The line of the file, or its row, counted from 1."""
    id: Any
    """None, where it cannot be used."""
    pairs: list[Pair]
    problem: str = ""
    """Why the row cannot be scored; empty: it can."""


def find_shape(columns: Columns, kinds: Mapping[str, bool], id_type: IdType, where: str) -> Shape:
    """Find the columns that a data set is to have.

    Args:
        kinds: the columns there are, and for each whether it holds lists.

    Raises:
        DataError: one is missing, or it cannot be told which holds the passages.
    """
    there = ", ".join(map(repr, kinds)) or "nothing"
    for name, option in ((columns.id, "--id-column"), (columns.query, "--query-column")):
        if name not in kinds:
            raise DataError(f"{where} has no {name!r}: it has {there}; {option} takes another name")
    wanted = PASSAGES if columns.passage is None else (columns.passage,)
    found = [name for name in wanted if name in kinds]
    if len(found) != 1:
        how = "both" if found else "none"
        raise DataError(f"{where} has {how} of {wanted}: it has {there}; --passage-column takes another name")
    return Shape(columns.id, columns.query, found[0], kinds[found[0]], id_type)


def row_of(values: Mapping[str, Any], place: int, where: str, shape: Shape) -> Row:
    """The row that these values make, or one that says what is wrong with them."""
    try:
        identity = _checked_id(where, shape.id, values.get(shape.id))
    except DataError as error:
        return Row(place, None, [], str(error))
    try:
        query = checked_text(where, shape.query, values.get(shape.query))
        given = values.get(shape.passage)
        if not shape.several:
            texts = [checked_text(where, shape.passage, given)]
        elif isinstance(given, list):
            texts = [checked_text(where, f"{shape.passage}[{i}]", text) for i, text in enumerate(given)]
        else:
            raise DataError(f"{where}: {shape.passage}={shortened(repr(given))}: use a list of strings")
    except DataError as error:
        return Row(place, identity, [], str(error))
    return Row(place, identity, [(query, text) for text in texts])


def _checked_id(where: str, key: str, value: object) -> str | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is None or isinstance(value, str):
        return checked_text(where, key, value)
    raise DataError(f"{where}: {key}={shortened(repr(value))}: use a string or a whole number")
