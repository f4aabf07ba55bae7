"""Chat templates that put a query and a document into a prompt: what stands before, between and after the two.

sentence-transformers gives such a template the messages "query" and "document", and "system" if there is a prompt.
transformers renders it, in a sandbox, once for each prompt and not for each pair: so a template must put both texts in
unchanged, the query first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bge_rerank_integrations.errors import CheckpointError

_ROLES = [re.compile(rf"""["']{role}["']""") for role in ("query", "document")]
_PROBES = (("QUERY-0c1d", "DOCUMENT-2e3f"), (" Query 4a5b\n\n", "\n document {{ 6c7d }} "))
"""Texts of which the second pair shows whether white space and braces stay as they are."""


class Frame(NamedTuple):
    """The texts around a query and a passage."""

    before: str
    between: str
    after: str


@dataclass(frozen=True)
class ChatTemplate:
    """A template of a folder.

    Args:
        structured: whether a message's content is a list of parts rather than a text.
        variables: what the template can name besides the messages, such as "bos_token".
    """

    source: str
    where: str
    structured: bool
    variables: Mapping[str, Any]

    @property
    def names_both(self) -> bool:
        """Whether it can be a template for pairs."""
        return all(role.search(self.source) for role in _ROLES)

    def frame(self, system: str) -> Frame:
        """
        Args:
            system: the system's message; empty: there is none.

        Raises:
            CheckpointError: the template does not put both texts, unchanged and once each, into one.
        """
        (query, document), other = _PROBES
        rendered = self._render(system, query, document)
        start, stop = rendered.find(query), rendered.find(document)
        if rendered.count(query) != 1 or rendered.count(document) != 1 or stop < start:
            raise CheckpointError(f"{self.where} does not put a query, and then a document, into one text, once each")
        frame = Frame(rendered[:start], rendered[start + len(query) : stop], rendered[stop + len(document) :])
        if self._render(system, *other) != frame.before + other[0] + frame.between + other[1] + frame.after:
            raise CheckpointError(f"{self.where} changes the query or the document, which cannot be done here")
        return frame

    def _render(self, system: str, query: str, document: str) -> str:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        named = [("system", system)] * bool(system) + [("query", query), ("document", document)]
        messages = [{"role": role, "content": self._content(text)} for role, text in named]
        variables: dict[str, Any] = {"add_generation_prompt": False, **self.variables}
        try:
            rendered: Any = render_jinja_template([messages], chat_template=self.source, **variables)
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.where} cannot be rendered: {error}") from error
        return str(rendered[0][0])

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.structured else text
