"""How texts are cut for BM25."""

from __future__ import annotations

import bm25s
import pytest
import Stemmer

from bge_rerank_integrations.corpus import language_reference
from bge_rerank_integrations.retrieval import BM25Index
from bge_rerank_integrations.words import PAIRS, Words, describe_analysis


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cities of France", ["citi", "franc"]),
        ("法国的首都 Paris", ["pari", "法国", "国的", "的首", "首都", "法", "国", "的", "首", "都"]),
        ("猫", ["猫"]),
        ("カメラ、テスト", ["カメ", "メラ", "テス", "スト"]),
        ("한국어 문장", ["한국", "국어", "한", "국", "어", "문장", "문", "장"]),
        ("हिन्दी भाषा।", ["हिन्द", "भाष"]),
        ("Москва столица", ["москв", "столиц"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        ("?! a", []),
    ],
)
def test_each_script_its_way(text: str, words: list[str]) -> None:
    assert Words()([text]) == [words]


def test_english_is_cut_as_bm25s_cuts_it() -> None:
    texts = [passage.text.casefold() for passage in language_reference()]
    wanted = bm25s.tokenize(
        texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    assert Words()(texts) == wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ｶﾀｶﾅ ＡＢＣ", "カタカナ abc"),  # width
        ("cafe\u0301", "café"),  # an accent by itself, as macOS has it in names
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),  # hangul letter by letter
        ("STRASSE", "Straße"),
        ("İSTANBUL", "istanbul"),
        ("باريس", "بَارِيس"),  # vowel signs
        ("ایران", "ايران"),  # a Persian keyboard and an Arabic one
        ("Silben\u00adtrennung", "Silbentrennung"),
    ],
)
def test_what_is_written_in_two_ways_is_the_same(one: str, other: str) -> None:
    first, second = Words()([one, other])
    assert first == second != []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("столица Россия", "Москва — столица России."),
        ("кошка", "Кошки спят целый день."),
        ("مدينة", "المدينة كبيرة"),
        ("γάτα", "Οι γάτες κοιμούνται"),
        ("लड़का", "लड़के खेलते हैं"),
        ("猫", "那只猫喜欢睡觉"),
        ("물", "물을 마신다"),
    ],
)
def test_other_forms_of_a_word_and_single_letters_are_found(query: str, text: str) -> None:
    index = BM25Index(["???", text])
    assert [found for found, _ in index.search(query, 2)] == [1]


def test_the_analysis_is_told_by_script() -> None:
    english = "English stems without stop words; other words as they are"
    assert describe_analysis(["a city", "naïve"]) == english
    assert "Russian stems of Cyrillic words; other words" in describe_analysis(["a city", "город"])
    assert describe_analysis(["首都"]) == f"{english}; {PAIRS}"


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
