"""How texts are cut for BM25."""

from __future__ import annotations

import bm25s
import pytest
import Stemmer

from bge_rerank_integrations.corpus import language_reference
from bge_rerank_integrations.retrieval import BM25Index
from bge_rerank_integrations.words import Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cities of France", ["citi", "franc"]),
        ("法国的首都 Paris", ["pari", "法国", "国的", "的首", "首都"]),
        ("猫", ["猫"]),
        ("カメラ、テスト", ["カメ", "メラ", "テス", "スト"]),
        ("한국어 문장", ["한국", "국어", "문장"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("Москва столица", ["москва", "столица"]),
        ("?! a", []),
    ],
)
def test_each_script_its_way(text: str, words: list[str]) -> None:
    assert Words()([text]) == [words]


def test_english_is_cut_as_bm25s_cuts_it() -> None:
    texts = [passage.text for passage in language_reference()]
    wanted = bm25s.tokenize(
        texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    assert Words()(texts) == wanted


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("日本の首都", ["東京は日本の首都です。", "犬が好きです。", "首相は京都にいる。"]),
        ("เมืองหลวงของไทย", ["กรุงเทพเป็นเมืองหลวงของประเทศไทย", "แมวชอบนอน"]),
        ("भारत की राजधानी", ["नई दिल्ली भारत की राजधानी है", "बिल्ली सोती है"]),
        ("한국의 수도", ["서울은 한국의 수도이다", "고양이는 잠을 잔다"]),
    ],
)
def test_the_answer_is_found_in_its_script(query: str, texts: list[str]) -> None:
    index = BM25Index(texts)
    assert index.search(query, 3)[0][0] == 0
    assert index.reads(query)
    assert index.unread == 0
