"""Files as they really arrive: JSON that may be anything, and what lies there instead of the file that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import CheckpointError

_LARGEST = 1 << 26
"""Bytes. The indexes of the largest published models have two million."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a CheckpointError that says what is wrong with it."""
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a JSON object")
    return content


def read_json_value(path: Path) -> Any:
    """Whatever JSON a file holds; its texts are proper Unicode and its numbers have no thousands of digits."""
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes: no file of settings is so large")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(content, ensure_ascii=False).encode()  # fails for half a surrogate pair, which is no text
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON{_instead(path)}: {error}") from error
    return content


def damage(path: Path, error: BaseException) -> str:
    """What is wrong with a file that could not be read, and what to do about it."""
    return f"{path} is broken or cut short{_instead(path)} ({error}): fetch or copy it again"


def _instead(path: Path) -> str:
    """What stands in the place of the file that was meant, if it is something that often does."""
    try:
        with path.open("rb") as file:
            beginning = file.read(100).lstrip().lower()
    except OSError:
        return ""
    if beginning.startswith(b"version https://git-lfs"):
        return f", since it is a Git LFS pointer, not the file itself: run `git lfs pull` in {path.parent}"
    if beginning.startswith((b"<!doctype", b"<html")):
        return ", since it is a web page, as a server sends it instead of a file"
    return ""
