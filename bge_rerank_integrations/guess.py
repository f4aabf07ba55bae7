"""Which encoding bytes look like that are not in the one they were read in: a guess for a message, never acted on."""

from __future__ import annotations

import codecs
import re

SAMPLE = 1 << 16
"""Bytes to guess from."""
MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8",
}
NO_TEXT = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "an Office file or a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"PAR1": "a Parquet table",
    b"SQLite format 3": "a database",
}
KANA = re.compile("[\u3041-\u309f\u30a1-\u30fc]")
HANGUL = re.compile("[\uac00-\ud7a3]")
RUSSIAN = re.compile("[\u043e\u0435\u0430\u0438\u043d\u0442\u0441]")  # o e a i n t s, half of all letters
WESTERN = re.compile("[ÀÁÂÄÅÆÇÈÉÊËÍÑÓÔÖØÚÜßàáâãäåæçèéêëìíîïñòóôõöøœùúûüÿ‘’“”„–—…«»¿¡°§€£©®]")
# Chinese text is made of the commonest characters, which stand together in its encodings, and of punctuation
COMMON_SIMPLIFIED = re.compile(rb"[\xa1-\xa3\xb0-\xd7][\xa1-\xfe]")
COMMON_TRADITIONAL = re.compile(rb"[\xa1-\xc6][\x40-\xfe]")
CONTROLS = re.compile("[\x01-\x08\x0e-\x1f]")
RUN = re.compile(rb"[\x80-\xff]+")


def what_it_is(head: bytes) -> str | None:
    """The kind of a file that is no text, from its first bytes; None: it can be text."""
    return next((what for signature, what in NO_TEXT.items() if head.startswith(signature)), None)


def guess(sample: bytes) -> str | None:
    """The encoding, by Python's name for it; None: it cannot be told.

    Args:
        sample: the beginning of a file, up to and with what could not be decoded.
    """
    for mark, encoding in MARKS.items():
        if sample.startswith(mark):
            return encoding
    if b"\0" in sample:
        return _wide(sample)
    if _decoded(sample, "utf-8") is not None:
        return "utf-8"
    runs = RUN.findall(sample)
    if sum(map(len, runs)) < 2 * len(runs) and _share(sample, "cp1252", WESTERN) > 0.9:
        return "cp1252"  # its accents stand among ASCII letters, where other scripts' letters stand together
    if _share(sample, "euc_kr", HANGUL) > 0.9:
        return "euc_kr"
    for encoding in ("shift_jis", "euc_jp"):
        if _share(sample, encoding, KANA) > 0.3:
            return encoding
    if _share_of_bytes(sample, "gb18030", COMMON_SIMPLIFIED) > 0.8:
        return "gb18030"
    if _share_of_bytes(sample, "big5", COMMON_TRADITIONAL) > 0.9:
        return "big5"
    cyrillic = ("cp1251", "koi8_r", "cp866")
    return next((encoding for encoding in cyrillic if _share(sample, encoding, RUSSIAN) > 0.4), None)


def _wide(sample: bytes) -> str | None:
    """UTF-16 without a byte order mark: the byte order in which there is white space."""
    plain = _decoded(sample.replace(b"\0", b""), "utf-8")
    if plain is not None and CONTROLS.search(plain) is None and sample.count(0) < len(sample) / 4:
        return None  # UTF-8 with a zero here and there
    for encoding in ("utf-16-le", "utf-16-be"):
        text = _decoded(sample, encoding) or ""
        if "\0" not in text and (" " in text or "\n" in text):
            return encoding
    return None


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The text, without a letter that the sample cuts; None: it is not in this encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return None


def _beyond_ascii(sample: bytes, encoding: str) -> list[str]:
    return [letter for letter in _decoded(sample, encoding) or "" if letter > "\x7f"]


def _share(sample: bytes, encoding: str, letters: re.Pattern[str]) -> float:
    """Which part of what is beyond ASCII are these letters; 0 where it is not in this encoding."""
    found = _beyond_ascii(sample, encoding)
    return sum(letters.fullmatch(letter) is not None for letter in found) / max(1, len(found))


def _share_of_bytes(sample: bytes, encoding: str, letters: re.Pattern[bytes]) -> float:
    """As `_share`, where bytes tell which letters are common."""
    found = [letter.encode(encoding, "ignore") for letter in _beyond_ascii(sample, encoding)]
    return sum(letters.fullmatch(letter) is not None for letter in found) / max(1, len(found))
