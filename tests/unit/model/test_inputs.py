"""The rules by which queries and passages are cut, over texts whose every word is one token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.model.inputs import (
    DecoderInputs,
    EncoderInputs,
    EncoderTemplate,
    Limits,
    repair,
    tokenize,
)

MARKS = ("<s>", "</s>", "[SEP]")
WORDS = (*MARKS, *(f"{text}{i}" for text in "qp" for i in range(60)), "A:", "B:")


def tokenizer(single: str = "<s> $A </s>", double: str = "<s> $A </s> </s> $B </s>") -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)} | {"a": 200, "b": 201}, "<s>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single, double, [(mark, WORDS.index(mark)) for mark in MARKS])
    return made


TOKENIZER = tokenizer()
COUNTS = st.integers(0, 60)
LIMITS = st.builds(Limits, query=st.integers(1, 70), passage=st.integers(6, 70))


def words(text: str, count: int) -> list[str]:
    return [f"{text}{i}" for i in range(count)]


def shown(ids: list[int]) -> list[str]:
    return [WORDS[i] for i in ids]


# --- encoders ---------------------------------------------------------------------------------------------------------


def cut_for_encoders(query: list[str], passage: list[str], limits: Limits) -> list[str]:
    """`<s> query </s></s> passage </s>` as it is described, one token at a time."""
    query, passage = query[: limits.query], passage[: limits.passage]
    while len(query) + 4 >= limits.passage:  # not one token of the passage would fit
        query = query[:-1]
    while len(query) + len(passage) + 4 > limits.passage:
        passage = passage[:-1]
    return ["<s>", *query, "</s>", "</s>", *passage, "</s>"]


@given(query=COUNTS, passage=COUNTS, limits=LIMITS)
def test_encoders_cut_the_query_to_its_limit_and_then_the_passage(query: int, passage: int, limits: Limits) -> None:
    asked, read = words("q", query), words("p", passage)
    (made,) = EncoderInputs(TOKENIZER, EncoderTemplate.of(TOKENIZER), limits).encode(
        [(" ".join(asked), " ".join(read))]
    )
    kept = shown(made.ids)
    assert kept == cut_for_encoders(asked, read, limits)
    assert len(kept) <= limits.passage
    assert made.truncated == (len(kept) < query + passage + 4)
    start, stop = made.passage
    assert kept[start:stop] == [word for word in kept if word.startswith("p")]
    assert made.prefix == 0  # in an encoder every token sees the passage


def test_instructions_are_part_of_the_texts_that_are_cut() -> None:
    inputs = EncoderInputs(TOKENIZER, EncoderTemplate.of(TOKENIZER), Limits(2, 9), "A: ", "B: ")
    (made,) = inputs.encode([("q0 q1", "p0 p1 p2")])
    assert shown(made.ids) == ["<s>", "A:", "q0", "</s>", "</s>", "B:", "p0", "p1", "</s>"]
    assert made.truncated


def test_the_template_of_a_bert_gives_passages_a_type_of_their_own() -> None:
    bert = EncoderTemplate.of(tokenizer("<s> $A [SEP]", "<s> $A [SEP] $B:1 [SEP]:1"))
    assert (bert.before, bert.between, bert.behind, bert.second_type) == ([0], [2], [2], 1)
    roberta = EncoderTemplate.of(TOKENIZER)
    assert (roberta.before, roberta.between, roberta.behind, roberta.second_type) == ([0], [1, 1], [1], 0)
    assert (bert.special_tokens, roberta.special_tokens) == (3, 4)


def test_a_tokenizer_that_has_no_tokens_for_letters_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no template for a pair of texts"):
        EncoderTemplate.of(Tokenizer(models.BPE()))


def test_a_limit_without_room_for_both_texts_is_refused() -> None:
    template = EncoderTemplate.of(TOKENIZER)
    EncoderInputs(TOKENIZER, template, Limits(1, 6))
    with pytest.raises(OptionError, match=r"max_length=5 .* 4 special tokens: use 6 or more"):
        EncoderInputs(TOKENIZER, template, Limits(1, 5))


# --- decoders ---------------------------------------------------------------------------------------------------------

BOS, SEPARATOR = [0], [2]


def decoder(limits: Limits, bos: list[int], prompt: list[int]) -> DecoderInputs:
    return DecoderInputs(TOKENIZER, limits, bos, SEPARATOR, prompt, "A: ", "B: ")


def cut_for_decoders(query: list[str], passage: list[str], limits: Limits, bos: int, prompt: int) -> list[str]:
    """`[bos] A: query SEP B: passage` as it is described: its length is bounded, and the passage alone pays."""
    query, passage = ["A:", *query][: limits.query], ["B:", *passage][: limits.passage]
    longest = limits.passage + len(SEPARATOR) + prompt
    while bos + len(query) + len(SEPARATOR) >= longest:  # not one token of the passage would fit
        query = query[:-1]
    while bos + len(query) + len(SEPARATOR) + len(passage) > longest:
        passage = passage[:-1]
    return [*["<s>"][:bos], *query, "[SEP]", *passage]


@given(query=COUNTS, passage=COUNTS, data=st.data(), prompt=st.integers(1, 9), has_bos=st.booleans())
def test_decoders_cut_the_passage_and_never_the_prompt(
    query: int, passage: int, data: st.DataObject, prompt: int, has_bos: bool
) -> None:
    limits = data.draw(LIMITS)
    bos, asked = BOS if has_bos else [], words("q", query)
    (made,) = decoder(limits, bos, [1] * prompt).encode([(" ".join(asked), " ".join(words("p", passage)))])
    kept, end = made.ids[: -len(SEPARATOR) - prompt], made.ids[-len(SEPARATOR) - prompt :]
    assert list(end) == SEPARATOR + [1] * prompt
    expected = cut_for_decoders(asked, words("p", passage), limits, len(bos), prompt)
    assert shown(kept) == expected
    assert len(kept) <= limits.passage + len(SEPARATOR) + prompt
    start, stop = made.passage
    assert shown(made.ids[start:stop]) == expected[start:]
    assert made.prefix == start  # what stands before the passage sees nothing of it
    assert made.truncated == (len(kept) < len(bos) + 1 + query + len(SEPARATOR) + 1 + passage)


@given(query=COUNTS, passages=st.lists(COUNTS, min_size=2, max_size=4), limits=LIMITS)
def test_pairs_of_one_query_begin_with_the_same_tokens(query: int, passages: list[int], limits: Limits) -> None:
    pairs = [(" ".join(words("q", query)), " ".join(words("p", count))) for count in passages]
    made = decoder(limits, BOS, [1, 1]).encode(pairs)
    assert len({tuple(sequence.ids[: sequence.prefix]) for sequence in made}) == 1


# --- texts ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["q1 q2", "p3", "", "q1"]), max_size=9))
def test_texts_are_tokenized_in_order_without_special_tokens(texts: list[str]) -> None:
    assert [shown(ids) for ids in tokenize(TOKENIZER, texts)] == [text.split() for text in texts]


@given(st.text(st.characters(), max_size=30))  # lone surrogates among them
def test_a_repaired_text_can_be_encoded_and_only_broken_ones_change(text: str) -> None:
    repaired = repair(text)
    repaired.encode()
    assert repair(repaired) == repaired
    try:
        text.encode()
    except UnicodeEncodeError:
        assert "\ufffd" in repaired or len(repaired) < len(text)
    else:
        assert repaired == text


def test_halves_of_a_surrogate_pair_are_joined_and_lone_ones_replaced() -> None:
    assert repair("a\ud83d\ude00b") == "a\U0001f600b"
    assert repair("a\ud83db") == "a\ufffdb"
