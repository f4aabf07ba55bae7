"""The README in Chinese says what the one in English says, as far as a test can tell."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from bge_rerank_integrations import Scorer
from bge_rerank_integrations.langchain import BGERerank

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
ALIKE = {
    "blocks of code": FENCED,
    "levels of headings": re.compile(r"^#+(?= )", re.MULTILINE),
    "pages": re.compile(r"(?<=\]\()(?!README)[^)]+"),
    "figures in tables": re.compile(r"(?<=\| )[\d.,]+(?: MB)?(?= \|)"),
    "numbers": re.compile(r"(?<![\w.,])\d[\d,]*\.?\d*"),
    "rows of tables": re.compile(r"^\|(?= )", re.MULTILINE),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_both_have_the_same(kind: str) -> None:
    english, chinese = (
        ALIKE[kind].findall(text if kind == "blocks of code" else FENCED.sub("", text)) for text in (ENGLISH, CHINESE)
    )
    if kind == "numbers":  # words for numbers differ, and so does their order in a sentence
        assert {number.rstrip(".,") for number in chinese} == {number.rstrip(".,") for number in english}
    else:
        assert chinese == english
        assert english


def test_each_links_to_the_other() -> None:
    assert "(README.zh-CN.md)" in ENGLISH.split("##")[0]
    assert "(README.md)" in CHINESE.split("##")[0]


def test_it_stays_short() -> None:
    for text in (ENGLISH, CHINESE):
        assert len(text.splitlines()) <= 260


def test_how_many_results_are_kept() -> None:
    """The row about `top_n`: what it says of the method is not true of the command of the same name."""
    assert BGERerank.model_fields["top_n"].default == 3
    assert inspect.signature(Scorer.rank).parameters["top_n"].default is None
    for text in (ENGLISH, CHINESE):
        (row,) = (row for row in text.splitlines() if row.startswith("| `top_n`"))
        assert row.count("`scorer.rank`") == 2
