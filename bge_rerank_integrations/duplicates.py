"""Texts that are equal but for white space and case: the best of them is kept."""

from __future__ import annotations

from collections.abc import Hashable


def alike(text: str) -> Hashable:
    """A key that texts share if they are equal but for white space and case."""
    return " ".join(text.casefold().split())
