"""Scores of an engine that runs, beside those in process: `python -m tests.engines.compare URL DIALECT [MODEL]`."""

from __future__ import annotations

import sys

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.options import Scale
from bge_rerank_integrations.remote.dialects import DIALECTS
from bge_rerank_integrations.remote.scorer import RemoteScorer

QUERY = "how do I sort a dictionary by its values?"
TEXTS = [
    *(f"Step {i}: lists of {i} numbers are sorted in place by their method sort." for i in range(60)),
    "sorted(d.items(), key=lambda item: item[1]) sorts a dictionary by its values.",
    "Paris is the capital of France.",
    "  blanks  at both ends, and\nlines\t",
    'with "quotes" \\ and 中文, émigré, 🙂',
    "a long text of many words " * 200,  # more than the 512 tokens that are read
    "x",
]


def texts_for(dialect: str) -> list[str]:
    """Those that the engine reads as far as this package does: llama.cpp does not cut long ones."""
    return [text for text in TEXTS if dialect != "llamacpp" or len(text) < 1000]


def largest_difference(url: str, dialect: str, scale: Scale, model: str = "demo") -> float:
    """Between the engine's scores and those in process, of the same model.

    Args:
        model: the name of one that comes with this package, or a folder: what the engine serves.
    """
    texts = texts_for(dialect)
    with load_scorer(model, scale=scale) as ours:
        expected = ours.score(QUERY, texts)
    with RemoteScorer(url, dialect=dialect, scale=scale, timeout=120) as remote:
        found = remote.score(QUERY, texts)
    return max(abs(one - other) for one, other in zip(expected, found, strict=True))


if __name__ == "__main__":
    url, dialect, *model = sys.argv[1:]
    for scale in DIALECTS[dialect].scales:
        most = largest_difference(url, dialect, scale, *model)
        print(f"{dialect}, {scale}: {len(texts_for(dialect))} texts, at most {most:.1e}")
