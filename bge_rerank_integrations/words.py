"""Cuts texts into the words that BM25 counts; how depends on the script of each part of a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from bge_rerank_integrations.errors import MissingExtraError

try:
    import bm25s as bm25s
    import Stemmer
except ModuleNotFoundError as error:
    raise MissingExtraError(["bm25s", "PyStemmer"], "demo") from error

HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"  # with spaces between longer units than words
KANA = "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
SOUTH_EAST_ASIAN = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
UNSPACED = re.compile(f"[{HAN}{HANGUL}{KANA}{SOUTH_EAST_ASIAN}]+")
"""Runs of letters of scripts that put no spaces between words."""
WHOLE = re.compile(f"[{HAN}{HANGUL}]")
"""Letters that can be words by themselves."""

SIGNS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed"  # Latin to Arabic
    "\u0711-\u07b1\u0900-\u0963\u0966-\u0df3\u0f3e-\u0f84\u0f86-\u0fbc"  # Syriac, Thaana, Indic, Tibetan
)
WORD = re.compile(rf"[\w{SIGNS}]{{2,}}")
"""Words of two letters or more, with their vowel signs and accents, which `\\w` does not take for letters."""

STEMMED = {
    "Greek": ("greek", "\u0370", "\u03ff"),
    "Cyrillic": ("russian", "\u0400", "\u052f"),
    "Armenian": ("armenian", "\u0530", "\u058f"),
    "Arabic": ("arabic", "\u0600", "\u06ff"),
    "Devanagari": ("hindi", "\u0900", "\u097f"),
    "Tamil": ("tamil", "\u0b80", "\u0bff"),
}
"""By the name of a script whose words are stemmed: in which language, and its first and last letter."""
SAME = str.maketrans({"\u06cc": "\u064a", "\u0649": "\u064a", "\u06a9": "\u0643", "\u0307": None, "\u00ad": None})
"""Persian letters as Arabic ones, since keyboards differ; without the dot of a Turkish capital i and soft hyphens."""
PAIRS = "letters in pairs for Chinese, Japanese, Korean and other scripts without spaces"


class Words:
    """Cuts texts: words by their stems, and pairs of neighbours where no spaces stand between words.

    Letters are compared without regard to case, width and how accents are encoded. Pairs are what Lucene's CJK
    analysis takes, too; Chinese and Korean letters count by themselves as well, since a query may be a single one.
    """

    def __init__(self) -> None:
        self._stems: dict[str, str] = {}
        self._stemmers = {
            language: Stemmer.Stemmer(language) for language in ("english", *(first for first, *_ in STEMMED.values()))
        }

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text; none where it has only stop words, single letters or signs."""
        return [self._cut(_folded(text)) for text in texts]

    def _cut(self, text: str) -> list[str]:
        spaced, runs = UNSPACED.sub(" ", text), UNSPACED.findall(text)
        words = [self._stem(word) for word in WORD.findall(spaced) if word not in bm25s.stopwords.STOPWORDS_EN]
        return [*words, *(part for run in runs for part in _parts(run))]

    def _stem(self, word: str) -> str:
        stem = self._stems.get(word)
        if stem is None:
            self._stems[word] = stem = self._stemmers[_language(word)].stemWord(word)
        return stem


def describe_analysis(texts: Sequence[str]) -> str:
    """Which ways of cutting texts apply to these."""
    stems = ["English stems without stop words"]
    for script, (language, first, last) in STEMMED.items():
        letters = re.compile(f"[{first}-{last}]")
        if any(letters.search(text) for text in texts):
            stems.append(f"{language.title()} stems of {script} words")
    pairs = [PAIRS] if any(UNSPACED.search(text) for text in texts) else []
    return "; ".join([*stems, "other words as they are", *pairs])


def _folded(text: str) -> str:
    """Letters that count as the same made the same."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text.casefold()).translate(SAME)


def _language(word: str) -> str:
    """Whose stems a word has: that of its first letter's script, or English."""
    return next((language for language, first, last in STEMMED.values() if first <= word[0] <= last), "english")


def _parts(run: str) -> list[str]:
    """The pairs of a run, and those letters that can be words; a letter that stands alone is kept, whatever it is."""
    return [*(run[i : i + 2] for i in range(len(run) - 1)), *(WHOLE.findall(run) if len(run) > 1 else [run])]
