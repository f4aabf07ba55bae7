"""The catalog and the publisher's advice."""

from __future__ import annotations

from typing import Any

import pytest

from bge_rerank_integrations.catalog import MODELS, recommend
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.families import FAMILIES


def test_six_models_of_the_known_families() -> None:
    assert len({model.name for model in MODELS}) == 6
    assert {model.family for model in MODELS} == set(FAMILIES)


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
