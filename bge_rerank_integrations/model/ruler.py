"""Measures texts in the tokens that a model reads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tokenizers import Tokenizer

from bge_rerank_integrations.model.tokenizer_errors import tokenizer_errors
from bge_rerank_integrations.windows import Span

SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TokenRuler:
    """By the model's own tokenizer; a `windows.Ruler`.

    Args:
        size: of query and passage together, without special tokens and prompt.
        most: tokens of a passage at most.
        query_size: tokens of a query at most.
    """

    tokenizer: Tokenizer
    size: int
    most: int
    query_size: int
    query_instruction: str
    passage_instruction: str
    exact: bool = True

    def room(self, query: str) -> int:
        read = min(len(self.tokens(self.query_instruction + query)), self.query_size, self.size - 1)
        return max(1, min(self.most, self.size - read) - len(self.tokens(self.passage_instruction)))

    def tokens(self, text: str) -> list[Span]:
        if not text:
            return []
        with tokenizer_errors("tokenizer.json does not work"):
            spans: list[Span] = self.tokenizer.encode(SURROGATE.sub("\ufffd", text), add_special_tokens=False).offsets
        return spans
