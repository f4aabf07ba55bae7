"""Text files of users: bytes in, lines out, and errors that name file, line and encoding.

Lines end at \\n or \\r\\n only: U+2028, U+0085 and similar characters can be inside texts. All commands do so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from bge_rerank_integrations.errors import DataError, OptionError

Source = Path | BinaryIO
"""A file by its path, or standard input as bytes."""
UTF_8 = "utf-8"
SAMPLE = 1 << 16
"""Bytes to guess an encoding from."""
NO_TEXT = {b"%PDF": "a PDF", b"PK\x03\x04": "an Office file or a zip archive", b"\x1f\x8b": "compressed with gzip"}


def name_of(source: Source) -> str:
    """The name of a source in error messages."""
    return str(source) if isinstance(source, Path) else "standard input"


def read_lines(source: Source, encoding: str = UTF_8) -> Iterator[tuple[str, str]]:
    """Each line, also blank ones, without its end, as (where, line). A byte order mark is removed.

    Raises:
        DataError: the file cannot be opened, or is not text in this encoding; the message names a likely encoding.
        OptionError: there is no such encoding.
    """
    name = name_of(source)
    with _opened(source) as file:
        if _newline(encoding) == b"\n":
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


def _opened(source: Source) -> AbstractContextManager[BinaryIO]:
    if not isinstance(source, Path):
        return nullcontext(source)
    try:
        return source.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist") from error
    except IsADirectoryError as error:
        raise DataError(f"{source} is a folder: a file is needed") from error
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from error


def _newline(encoding: str) -> bytes:
    try:
        return "\n".encode(encoding)
    except (LookupError, ValueError) as error:
        raise OptionError(
            f"encoding={encoding!r}: use a name that Python knows, such as utf-8, utf-16, gb18030, shift_jis or cp1252"
        ) from error


def _decoded_by_line(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    head = b""
    for number, raw in enumerate(file, 1):
        head = head or raw
        try:
            if number == 1 and encoding == UTF_8 and _wide(raw):
                raise UnicodeDecodeError(encoding, raw, 0, 1, "every second byte is zero")
            line = raw.decode(encoding)
        except UnicodeDecodeError as error:
            sample = raw + file.read(SAMPLE)
            raise _undecodable(f"{name}, line {number}", encoding, error, head, sample) from error
        yield line


def _decoded(content: bytes, name: str, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        number = content[: error.start].decode(encoding, "replace").count("\n") + 1
        raise _undecodable(f"{name}, line {number}", encoding, error, content, content[:SAMPLE]) from error


def _undecodable(where: str, encoding: str, error: UnicodeDecodeError, head: bytes, sample: bytes) -> DataError:
    for signature, what in NO_TEXT.items():
        if head.startswith(signature):
            return DataError(f"{where} is not text: the file is {what}. Give a text file")
    found = f"{where} is not {encoding.upper()} ({error.reason} at byte {error.start})"
    guess = _guess(head, sample)
    if guess is None or guess == encoding.lower():
        return DataError(f"{found}: name its encoding with encoding (--encoding), or convert it")
    return DataError(f"{found}: it looks like {guess.upper()}, which encoding (--encoding {guess}) reads")


def _guess(head: bytes, sample: bytes) -> str | None:
    """The likely encoding of bytes that are not UTF-8; None: unknown."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if wide := _wide(head):
        return wide
    try:
        letters = [letter.encode("gb18030") for letter in sample.decode("gb18030", "ignore") if letter > "\x7f"]
    except UnicodeEncodeError:
        return None
    # Chinese text is made of the 3755 commonest characters, which stand together, and of punctuation; others' is not
    common = sum(len(b) == 2 and (0xB0 <= b[0] <= 0xD7 or 0xA1 <= b[0] <= 0xA3) and b[1] >= 0xA1 for b in letters)
    if common > 0.8 * len(letters):
        return "gb18030"
    single = sum(byte >= 0x80 for byte in sample) < 0.2 * len(sample)
    return "cp1252" if single else None


def _wide(head: bytes) -> str | None:
    """UTF-16 without a byte order mark, if the first letters are ASCII."""
    start = head[:32]
    if len(start) < 4:
        return None
    if not any(start[1::2]) and all(start[::2]):
        return "utf-16-le"
    return "utf-16-be" if not any(start[:-1:2]) and all(start[1::2]) else None
