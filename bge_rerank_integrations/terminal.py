"""Texts of others on a terminal: shown as they are, and never obeyed."""

from __future__ import annotations

from rich import markup

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """The text with its control characters, which may begin sequences that a terminal obeys, written as \\x1b."""
    return text.translate(_CONTROLS)


def escape(text: str) -> str:
    """The text as rich's markup that prints it: `printable`, and its brackets mean nothing."""
    return markup.escape(printable(text))
