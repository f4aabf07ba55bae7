"""Text files of users: bytes in, lines out, and errors that name file, line and encoding.

Lines end at \\n or \\r\\n only: U+2028, U+0085 and similar characters can be inside texts. All commands do so.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bge_rerank_integrations.errors import DataError, OptionError
from bge_rerank_integrations.guess import SAMPLE, guess, what_it_is

Source = Path | BinaryIO
"""A file by its path, or standard input as bytes."""
UTF_8 = "utf-8"


def name_of(source: Source) -> str:
    """The name of a source in error messages."""
    return str(source) if isinstance(source, Path) else "standard input"


def read_lines(source: Source, encoding: str = UTF_8) -> Iterator[tuple[str, str]]:
    """Each line, also blank ones, without its end, as (where, line). A byte order mark is removed.

    Raises:
        DataError: the file cannot be opened, or is not text in this encoding; the message names a likely encoding.
        OptionError: there is no such encoding.
    """
    name, encoding = name_of(source), _plain_name(encoding)
    with _opened(source) as file:
        if "\n".encode(encoding) == b"\n":
            decoded = _decoded_by_line(file, name, encoding)
        else:
            decoded = iter(_decoded(file.read(), name, encoding).split("\n"))
        for number, line in enumerate(decoded, 1):
            line = line.removesuffix("\n").removesuffix("\r")
            yield f"{name}, line {number}", line.removeprefix("\ufeff") if number == 1 else line


def read_text(source: Source, encoding: str = UTF_8) -> str:
    """The whole file, lines ended by \\n. Raises as `read_lines`."""
    return "\n".join(line for _, line in read_lines(source, encoding))


def read_json_lines(source: Source, encoding: str = UTF_8) -> Iterator[tuple[str, Any]]:
    """The JSON value of each line that is not blank, as (where, value). Raises as `read_lines`."""
    for where, line in read_lines(source, encoding):
        if line.strip():
            yield where, parse_json(line, where)


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; if it is not JSON, a DataError says where."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, or a number of thousands of digits
        raise DataError(f"{where} is not JSON ({error}): {shortened(text)}") from error


def checked_text(where: str, key: str, value: object) -> str:
    """The value as a string that can be tokenized, or an error that names it."""
    if not isinstance(value, str):
        missing = value is None
        raise DataError(
            f"{where} has no {key!r}: add it" if missing else f"{where}: {key}={shortened(repr(value))}: use a string"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {key} holds half a surrogate pair ({shortened(value)!a}): remove it") from error
    return value


def shortened(text: str) -> str:
    """At most 60 letters of a text, for a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """The file, closed after use; what goes wrong while it is opened or read names it."""
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                yield file
        else:
            yield source
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist") from error
    except IsADirectoryError as error:
        raise DataError(f"{source} is a folder: a file is needed") from error
    except OSError as error:
        raise DataError(f"{name_of(source)} cannot be read: {error.strerror}") from error


def _plain_name(encoding: str) -> str:
    """Python's one name of an encoding; a byte order mark is always left out, so UTF-8 with one is UTF-8."""
    try:
        "\n".encode(encoding)  # of texts: there are codecs of other things
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, ValueError) as error:
        raise OptionError(
            f"encoding={encoding!r}: use a name that Python knows, such as utf-8, utf-16, gb18030, shift_jis or cp1252"
        ) from error


def _decoded_by_line(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    start = b""
    for number, raw in enumerate(file, 1):
        try:
            if b"\0" in raw:
                raise UnicodeDecodeError(encoding, raw, raw.index(b"\0"), 0, "a zero")
            line = raw.decode(encoding)
        except UnicodeDecodeError as error:
            sample = start + raw[:SAMPLE] + file.read(SAMPLE)
            raise _undecodable(f"{name}, line {number}", encoding, error, sample) from error
        if len(start) < SAMPLE:
            start += raw
        yield line


def _decoded(content: bytes, name: str, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        number = content[: error.start].decode(encoding, "replace").count("\n") + 1
        raise _undecodable(f"{name}, line {number}", encoding, error, content[:SAMPLE]) from error


def _undecodable(where: str, encoding: str, error: UnicodeDecodeError, sample: bytes) -> DataError:
    if what := what_it_is(sample):
        return DataError(f"{where} is not text: the file is {what}. Give a text file")
    found = f"{where} is not {encoding.upper()} ({error.reason} at byte {error.start})"
    looks_like = guess(sample)
    if looks_like is not None and looks_like != encoding:
        return DataError(f"{found}: it looks like {looks_like.upper()}, which encoding (--encoding {looks_like}) reads")
    if b"\0" in sample:
        return DataError(f"{found}: give a text file, without zeros among its bytes")
    return DataError(f"{found}: name its encoding with encoding (--encoding), or convert it")
