"""Cuts texts into the words that BM25 counts; how depends on the script of each part of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bge_rerank_integrations.errors import MissingExtraError

try:
    import bm25s as bm25s
    import Stemmer
except ModuleNotFoundError as error:
    raise MissingExtraError(["bm25s", "PyStemmer"], "demo") from error

UNSPACED = re.compile(
    "["
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"  # hangul, with spaces between longer units than words
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    "]+"
)
"""Runs of letters of scripts without spaces between words."""
MARKED = re.compile("[\u0900-\u0963\u0966-\u0df3]+")
"""Words of scripts from Devanagari to Sinhala, with their vowel signs, which `\\w` does not match."""
PAIRS = "letters in pairs for Chinese, Japanese, Korean and other scripts without spaces"
PLAIN = "English stems without stop words, other words as they are"


class Words:
    """Cuts texts: English stems, other words as they are, and pairs of letters in scripts without spaces.

    Lucene's CJK analysis uses pairs, too. A single letter is kept as it is.
    """

    def __init__(self) -> None:
        self._stemmer = Stemmer.Stemmer("english")

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text; none if it has only stop words, single letters or punctuation."""
        plain = [MARKED.sub(" ", UNSPACED.sub(" ", text)) for text in texts]
        tokens: list[list[str]] = bm25s.tokenize(
            plain, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return [
            [*([] if words == [""] else words), *MARKED.findall(text), *_pairs(text)]
            for words, text in zip(tokens, texts, strict=True)
        ]


def describe_analysis(texts: Sequence[str]) -> str:
    """How these texts are cut, in words for a reader."""
    return f"{PLAIN}; {PAIRS}" if any(UNSPACED.search(text) for text in texts) else PLAIN


def _pairs(text: str) -> list[str]:
    runs = UNSPACED.findall(text)
    return [run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))]
