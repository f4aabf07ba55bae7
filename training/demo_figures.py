"""Write what `bge-rerank demo` says about the whole evaluation set: `python -m training.demo_figures` (ten minutes)."""

import json

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.demo.evaluation_set import load_evaluation_set
from bge_rerank_integrations.demo.figures import FIGURES, rank_of
from training.candidates import retrieve

MODELS = ("demo",)


def measure(model: str) -> dict[str, list[int]]:
    """The rank of each query's best answer by BM25 and by the model; see `Figures`."""
    texts, queries = load_evaluation_set()
    found, _ = retrieve(texts, [query.text for query in queries])
    ranks: dict[str, list[int]] = {"before": [], "after": []}
    with load_scorer(model, devices="cpu") as scorer:
        for query, candidates in zip(queries, found.tolist(), strict=True):
            ranked = scorer.rank(query.text, [texts[index] for index in candidates])
            ranks["before"].append(rank_of(query.relevant, candidates))
            ranks["after"].append(rank_of(query.relevant, [candidates[result.index] for result in ranked]))
    return ranks


if __name__ == "__main__":
    measured = {model: measure(model) for model in MODELS}
    FIGURES.write_text(json.dumps(measured) + "\n", encoding="utf-8")
