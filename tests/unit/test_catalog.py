"""The catalog and the publisher's advice."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bge_rerank_integrations.catalog import MODELS, advice, recommend
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.families import FAMILIES


def test_six_models_of_the_known_families() -> None:
    assert len({model.name for model in MODELS}) == 6
    assert {model.family for model in MODELS} == set(FAMILIES) - {"classifier"}  # which runs what others publish


@pytest.mark.parametrize("language", ["english", "chinese", "multilingual"])
@pytest.mark.parametrize("priority", ["balanced", "efficiency", "performance"])
def test_every_combination_has_an_answer(language: Any, priority: Any) -> None:
    names = [model.name for model in recommend(language, priority)]
    assert names
    if priority != "performance":
        assert names[0] == "BAAI/bge-reranker-v2-m3"
    if language == "multilingual":
        assert "BAAI/bge-reranker-v2-minicpm-layerwise" not in names


def test_other_words_are_refused() -> None:
    with pytest.raises(OptionError, match=r"'klingon'.*'english'"):
        recommend("klingon")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"'cheap'.*'balanced'"):
        recommend(priority="cheap")  # type: ignore[arg-type]


def test_every_model_is_described_in_both_languages() -> None:
    for model in MODELS:
        assert model.languages.isascii()
        assert model.good_for.isascii()
        for text in (model.languages_zh, model.good_for_zh):
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text)


@pytest.mark.parametrize("language", ["english", "chinese", "multilingual"])
@pytest.mark.parametrize("priority", ["balanced", "efficiency", "performance"])
def test_the_advice_names_the_same_models_in_both_languages(language: Any, priority: Any) -> None:
    names = [model.name for model in recommend(language, priority)]
    english, chinese = advice(language, priority), advice(language, priority, "zh")
    assert re.findall(r"BAAI/[\w.-]*\w", english) == re.findall(r"BAAI/[a-z0-9.-]*[a-z0-9]", chinese) == names
    assert english.isascii()
    assert "测试" in chinese


def test_advice_in_another_language() -> None:
    assert advice("chinese", "efficiency", "zh") == (
        "中文文本，效率优先：先试 BAAI/bge-reranker-v2-m3，再试 BAAI/bge-reranker-v2-minicpm-layerwise。"
        "然后在自己的数据上测试。"
    )
    with pytest.raises(OptionError, match=r"lang='de': use 'en' or 'zh'"):
        advice(lang="de")  # type: ignore[arg-type]
