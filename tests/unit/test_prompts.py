"""The publisher's prompts, by name or as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bge_rerank_integrations import Scorer
from bge_rerank_integrations.model.families import FAMILIES, family_class
from bge_rerank_integrations.prompts import PROMPTS

DECODERS = [name for name in FAMILIES if "prompt" in family_class(name).options]


def test_prompts_are_sentences_and_no_two_are_the_same() -> None:
    assert len(set(PROMPTS.values())) == len(PROMPTS)
    for name, prompt in PROMPTS.items():
        assert name.isidentifier()
        assert prompt[0].isupper()
        assert prompt.endswith(".")
        assert "  " not in prompt  # where two parts of a string meet


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_given_by_name_or_as_text(name: str, scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers("llm")
    by_name, as_text = (scorer.with_options(prompt=prompt).score("q", ["a"]) for prompt in (name, PROMPTS[name]))
    assert by_name == as_text


@pytest.mark.parametrize("family", DECODERS)
def test_the_familys_own_prompt_is_one_of_them(family: str, scorers: Callable[[str], Scorer]) -> None:
    own = scorers(family).score("q", ["a"])
    named = {name: scorers(family).with_options(prompt=name).score("q", ["a"]) for name in PROMPTS}
    expected = "answer" if family == "lightweight" else "answer_yes_no"
    assert [name for name, scores in named.items() if scores == own] == [expected]
