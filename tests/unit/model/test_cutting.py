"""Long texts are cut before they are tokenized, and their first tokens are those of the whole text."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bge_rerank_integrations.model.inputs import tokenize
from tests.conftest import CHECKPOINTS, FAMILIES

PIECES = [
    "abc de. ", "ab", "a", "7", "中文字符测试，。", "ﷺ", "ȩ́ x", "👩‍👩‍👧 ",
    "\n\t  ", "กขค", "<s></s> ", "<pad>a", "​ x", "Σσς ", "İi",
    "▁ a▁", " " * 20, "-" * 7, "http://a.b/c?d=e&",
]  # fmt: skip
"""Scripts with and without spaces, characters that become many or none, special tokens, runs."""


@cache
def tokenizer(family: str) -> Tokenizer:
    found = Tokenizer.from_file(str(CHECKPOINTS / family / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def check(family: str, text: str, kept: int) -> None:
    whole = tokenizer(family).encode(text, add_special_tokens=False).ids
    (ids,) = tokenize(tokenizer(family), [text], kept)
    assert ids[:kept] == whole[:kept]
    assert (len(ids) > kept) == (len(whole) > kept)


@pytest.mark.parametrize("family", FAMILIES)
@given(st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 400)), min_size=1, max_size=30), st.integers(1, 32))
@settings(max_examples=25, deadline=None)
def test_the_ids_that_are_kept_are_those_of_the_whole_text(
    family: str, parts: list[tuple[str, int]], kept: int
) -> None:
    check(family, "".join(piece * count for piece, count in parts), kept)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("piece", PIECES)
def test_one_piece_over_and_over(family: str, piece: str) -> None:
    for length in (3000, 4001, 6007):
        check(family, (piece * length)[:length], 16)


def test_what_is_tokenized_of_a_long_text_is_bounded() -> None:
    seen: list[int] = []

    class Watching:
        def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list[object]:
            seen.extend(map(len, texts))
            return list(tokenizer("encoder").encode_batch_fast(texts, add_special_tokens=add_special_tokens))

    for text in ("ﷺ" * 300_000, "a" * 3_000_000, "some words " * 300_000):
        assert len(tokenize(Watching(), [text], 512)[0]) == 513  # type: ignore[arg-type]
    assert max(seen) < 300_000
