"""From query and passage to token ids: one class for encoders, one for decoders.

Texts go through `tokenizers` with truncation and padding off. Its ids are those of the publisher's own environment,
where transformers' newer tokenizer classes differ, and it keeps no state, so that threads can share one tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tokenizers import Tokenizer

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.model.cutting import beginning, is_long
from bge_rerank_integrations.model.ruler import TokenRuler
from bge_rerank_integrations.model.tokenizer_errors import tokenizer_errors
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.windows import Ruler


class PairEncoder(Protocol):
    """Turns pairs into the token sequences that a family reads."""

    def encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]: ...

    @property
    def ruler(self) -> Ruler: ...


@dataclass(frozen=True)
class Limits:
    """How many tokens may be kept: of a query, and of a passage (for encoders: of the whole sequence)."""

    query: int
    passage: int


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], kept: int | None = None) -> list[list[int]]:
    """Token ids of each text, without special tokens; a text that occurs often is tokenized once.

    Args:
        kept: how many ids of each text the caller keeps: of a long one no more than one beyond is given. None: all.
    """
    ids: dict[str, list[int]] = {}
    short = []
    for text in dict.fromkeys(texts):
        if kept is not None and is_long(text, kept):
            ids[text] = beginning(text, kept, lambda part: _encode(tokenizer, [part])[0])
        else:
            short.append(text)
    ids.update(zip(short, _encode(tokenizer, short), strict=True))
    return [ids[text] for text in texts]


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    with tokenizer_errors("tokenizer.json does not work"):
        encoded = tokenizer.encode_batch_fast([repair(text) for text in texts], add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def repair(text: str) -> str:
    """Lone surrogates, which are no text and which no tokenizer takes, as U+FFFD; split pairs are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True)
class EncoderTemplate:
    """The special tokens before, between and behind the two texts, read off the tokenizer's own pair template."""

    before: list[int]
    between: list[int]
    behind: list[int]
    second_type: int
    """The token type of the passage: 1 for BERT, 0 for RoBERTa."""

    @staticmethod
    def of(tokenizer: Tokenizer) -> EncoderTemplate:
        with tokenizer_errors("tokenizer.json does not work"):
            probe = tokenizer.encode("a", "b")
        spans = {text: [i for i, s in enumerate(probe.sequence_ids) if s == text] for text in (0, 1)}
        if not spans[0] or not spans[1]:
            raise CheckpointError("tokenizer.json has no template for a pair of texts, or no tokens for 'a' and 'b'")
        first, second = spans[0], spans[1]
        return EncoderTemplate(
            before=probe.ids[: first[0]],
            between=probe.ids[first[-1] + 1 : second[0]],
            behind=probe.ids[second[-1] + 1 :],
            second_type=probe.type_ids[second[0]],
        )

    @property
    def special_tokens(self) -> int:
        return len(self.before) + len(self.between) + len(self.behind)


@dataclass(frozen=True)
class EncoderInputs:
    """`<s> query </s></s> passage </s>`, as FlagEmbedding's encoder_only/base.py cuts it.

    The query is cut to its limit, the passage to its own; then the passage alone is cut until all of it fits. A query
    that would leave the passage no room at all is cut to leave one token.
    """

    tokenizer: Tokenizer
    template: EncoderTemplate
    limits: Limits
    query_instruction: str = ""
    passage_instruction: str = ""

    def __post_init__(self) -> None:
        least = self.template.special_tokens + 2
        if self.limits.passage < least:
            raise OptionError(
                f"max_length={self.limits.passage} has no room for a query and a passage beside "
                f"{self.template.special_tokens} special tokens: use {least} or more"
            )

    def encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        queries = tokenize(self.tokenizer, [self.query_instruction + query for query, _ in pairs], self.limits.query)
        passages = tokenize(
            self.tokenizer, [self.passage_instruction + passage for _, passage in pairs], self.limits.passage
        )
        return [self._join(query, passage) for query, passage in zip(queries, passages, strict=True)]

    @property
    def ruler(self) -> TokenRuler:
        """Measures texts as they are cut here."""
        size = self.limits.passage - self.template.special_tokens
        instructions = (self.query_instruction, self.passage_instruction)
        return TokenRuler(self.tokenizer, size, size, self.limits.query, *instructions)

    def _join(self, query: list[int], passage: list[int]) -> TokenSequence:
        template, room = self.template, self.limits.passage - self.template.special_tokens
        kept_query = query[: min(self.limits.query, room - 1)]
        kept_passage = passage[: room - len(kept_query)]
        start = len(template.before) + len(kept_query) + len(template.between)
        return TokenSequence(
            ids=(*template.before, *kept_query, *template.between, *kept_passage, *template.behind),
            passage=(start, start + len(kept_passage)),
            truncated=len(kept_query) < len(query) or len(kept_passage) < len(passage),
        )


@dataclass(frozen=True)
class DecoderInputs:
    """`[bos] A: query \\n B: passage \\n prompt`, as FlagEmbedding's decoder_only collators cut it.

    Bos, query, separator and passage are cut to `limits.passage` plus the lengths of separator and prompt, from the
    passage alone; then separator and prompt are added, which are never cut. A query that would leave the passage no
    room at all is cut to leave one token, as in encoders.
    """

    tokenizer: Tokenizer
    limits: Limits
    bos: list[int]
    separator: list[int]
    prompt: list[int]
    query_instruction: str
    passage_instruction: str
    room: int | None = None
    """Tokens of query and passage together, where that is not as described."""

    def __post_init__(self) -> None:
        if self._room < 2:
            raise OptionError(
                f"max_length={self.limits.passage} has no room for a query and a passage beside the prompt: use "
                f"{self.limits.passage + 2 - self._room} or more"
            )

    @property
    def _room(self) -> int:
        """Tokens of query and passage together."""
        if self.room is not None:
            return self.room
        return self.limits.passage + len(self.prompt) - len(self.bos)

    def encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        queries = tokenize(self.tokenizer, [self.query_instruction + query for query, _ in pairs], self.limits.query)
        passages = tokenize(
            self.tokenizer, [self.passage_instruction + passage for _, passage in pairs], self.limits.passage
        )
        return [self._join(query, passage) for query, passage in zip(queries, passages, strict=True)]

    @property
    def ruler(self) -> TokenRuler:
        """Measures texts as they are cut here."""
        most, instructions = self.limits.passage, (self.query_instruction, self.passage_instruction)
        return TokenRuler(self.tokenizer, self._room, most, self.limits.query, *instructions)

    def _join(self, query: list[int], passage: list[int]) -> TokenSequence:
        room = self._room
        kept_query = query[: min(self.limits.query, room - 1)]
        kept_passage = passage[: min(self.limits.passage, room - len(kept_query))]
        start = len(self.bos) + len(kept_query) + len(self.separator)
        return TokenSequence(
            ids=(*self.bos, *kept_query, *self.separator, *kept_passage, *self.separator, *self.prompt),
            passage=(start, start + len(kept_passage)),
            prefix=start,
            truncated=len(kept_query) < len(query) or len(kept_passage) < len(passage),
        )
