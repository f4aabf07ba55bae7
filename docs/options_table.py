"""Write the table of all options into options.md: `python docs/options_table.py`.

Everything in it comes from `bge_rerank_integrations/options.py`; a test holds the two
equal.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

from bge_rerank_integrations import options

PAGE = Path(__file__).with_name("options.md")
BEGIN, END = "<!-- options_table.py: begin -->", "<!-- options_table.py: end -->"


def docstrings(group: type) -> dict[str, str]:
    """The text below each field, from the source: Python does not keep it."""
    (definition,) = ast.parse(inspect.getsource(group)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = inspect.cleandoc(
                ast.literal_eval(text.value)
            )
    return found


def first_sentence(text: str) -> str:
    """Up to the first full stop that a new sentence follows, on one line."""
    return re.split(r'(?<=\.)\s+(?=["A-Z])', " ".join(text.split()))[0]


def type_name(annotation: str) -> str:
    """The type as it is written, but the values themselves for a named choice."""
    choices = get_args(getattr(options, annotation, None))
    return " | ".join(f'"{choice}"' for choice in choices) or annotation


def code(text: str) -> str:
    """Text as code in a cell of a table, where a bare | would begin the next cell."""
    return "`{}`".format(text.replace("|", "\\|"))


def default(value: object) -> str:
    if value is MISSING:
        return "(required)"
    return code(f'"{value}"' if isinstance(value, str) else repr(value))


def lines() -> Iterator[str]:
    for group in (*options.GROUPS, options.RankingOptions):
        texts = docstrings(group)
        yield f"**`{group.__name__}`**: {first_sentence(inspect.getdoc(group) or '')}"
        yield ""
        yield "| Option | Type | Default | Meaning |"
        yield "| --- | --- | --- | --- |"
        for field in fields(group):
            meaning = first_sentence(texts[field.name]).replace("|", "\\|")
            kind = code(type_name(str(field.type)))
            cells = code(field.name), kind, default(field.default), meaning
            yield f"| {' | '.join(cells)} |"
        yield ""


def with_table(page: str) -> str:
    """The page with its table as it should be."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"no table to replace: write {BEGIN} and {END} where it belongs"
        )
    return "\n".join([before + begin, "", *lines(), end + after])


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
