"""From query and passage to token ids where both stand in one text, which is tokenized as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.chat_template import Frame
from bge_rerank_integrations.model.cutting import CHARACTERS_A_TOKEN, SLACK, beginning, is_long
from bge_rerank_integrations.model.inputs import Limits, repair, tokenize
from bge_rerank_integrations.model.ruler import TokenRuler
from bge_rerank_integrations.model.tokenizer_errors import tokenizer_errors
from bge_rerank_integrations.once import once
from bge_rerank_integrations.ranking import Pair


@dataclass(frozen=True)
class JoinedInputs:
    """`frame.before query frame.between passage frame.after`, cut as sentence-transformers cuts it.

    The whole may have `limits.passage` tokens and as many as the frame has. What is beyond is cut from the passage, and
    the tokens of `frame.after` are put back. Before that, the query is cut to its own limit.

    Args:
        causal: whether tokens see only those before them, so that passages of one query can share what they begin with.
    """

    tokenizer: Tokenizer
    limits: Limits
    frame: Frame
    query_instruction: str = ""
    passage_instruction: str = ""
    causal: bool = True

    def __post_init__(self) -> None:
        if self.limits.passage < 2:
            raise OptionError(f"max_length={self.limits.passage} has no room for a query and a passage: use 2 or more")

    @once
    def _after(self) -> list[int]:
        (ids,) = tokenize(self.tokenizer, [self.frame.after])
        return ids

    @once
    def _most(self) -> int:
        """Tokens of the whole."""
        (before, between) = tokenize(self.tokenizer, [self.frame.before, self.frame.between])
        return self.limits.passage + len(before) + len(between) + len(self._after)

    @property
    def ruler(self) -> TokenRuler:
        """Measures texts as they are cut here, up to a token or two where they meet."""
        most, instructions = self.limits.passage, (self.query_instruction, self.passage_instruction)
        return TokenRuler(self.tokenizer, most, most, self.limits.query, *instructions)

    def encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        heads: dict[str, tuple[str, bool, list[int]]] = {}
        for query in dict.fromkeys(query for query, _ in pairs):
            kept, cut = self._cut_query(repair(self.query_instruction + query))
            head = self.frame.before + kept + self.frame.between
            heads[query] = head, cut, self._ids(head)
        return [self._join(*heads[query], repair(self.passage_instruction + passage)) for query, passage in pairs]

    def _cut_query(self, query: str) -> tuple[str, bool]:
        """The query's beginning, and whether there is more."""
        limit = min(self.limits.query, self.limits.passage - 1)
        part = query[: CHARACTERS_A_TOKEN * (limit + SLACK)]
        with tokenizer_errors("tokenizer.json does not work"):
            spans = self.tokenizer.encode(part, add_special_tokens=False).offsets
        return (part[: spans[limit - 1][1]], True) if len(spans) > limit else (part, len(part) < len(query))

    def _join(self, head: str, cut: bool, head_ids: list[int], passage: str) -> TokenSequence:
        if is_long(passage, self._most):
            ids = beginning(passage, self._most, lambda part: self._ids(head + part))
            ids += self._after  # one of the passage's tokens was left, so that all of these are beyond the limit
        else:
            ids = self._ids(head + passage + self.frame.after)
        if too_long := len(ids) > self._most:
            ids = [*ids[: self._most - len(self._after)], *self._after]
        shared = next((i for i, (a, b) in enumerate(zip(ids, head_ids, strict=False)) if a != b), len(head_ids))
        start = min(shared, len(ids) - 1)
        stop = max(start, len(ids) - len(self._after))
        return TokenSequence(
            ids=tuple(ids), passage=(start, stop), truncated=cut or too_long, prefix=start if self.causal else 0
        )

    def _ids(self, text: str) -> list[int]:
        with tokenizer_errors("tokenizer.json does not work"):
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids
