"""The two embedded decoder models: they load, rank better the deeper they are read, and bear compression."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.demo.evaluation_set import load_evaluation_set
from bge_rerank_integrations.evaluation.metrics import measure
from bge_rerank_integrations.evaluation.trec import ranked
from bge_rerank_integrations.model.hub import find_checkpoint
from bge_rerank_integrations.options import ModelSource
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.retrieval import BM25Index

QUERIES = ("What is the capital of France?", "What is the population of China?")
TEXTS = ("Paris is the capital of France.", "The population of China is over 1.4 billion people.")
TUTORIAL = [(query, text) for query in QUERIES for text in TEXTS]  # the first and the last belong together
CUTOFFS = (2, 3, 4, 5, 6, 7, 8)


@pytest.fixture(scope="module", params=["layerwise", "lightweight"])
def scorer(request: pytest.FixtureRequest) -> Iterator[Scorer]:
    with load_scorer(f"demo-{request.param}", devices="cpu") as scorer:
        assert scorer.family == request.param
        yield scorer


@pytest.fixture(scope="module")
def lightweight() -> Iterator[Scorer]:
    with load_scorer("demo-lightweight", devices="cpu") as scorer:
        yield scorer


def matching_are_above(scores: list[float]) -> bool:
    return min(scores[0], scores[3]) > max(scores[1], scores[2])


@pytest.mark.parametrize("name", ["demo-layerwise", "demo-lightweight"])
def test_they_are_small_and_say_what_they_are(name: str) -> None:
    folder = find_checkpoint(ModelSource(name)).folder
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    assert "demonstration model" in (folder / "README.md").read_text()


def test_they_share_one_tokenizer() -> None:
    folders = {find_checkpoint(ModelSource(f"demo-{name}")).folders[-1] for name in ("layerwise", "lightweight")}
    (folder,) = folders
    models = folder.parent
    assert sorted(path.parent.name for path in models.glob("*/tokenizer.json")) == ["decoder-tokenizer", "demo"]


def test_ranking_improves_with_depth(scorer: Scorer) -> None:
    texts, queries = load_evaluation_set()
    chosen = queries[::20]
    found, _ = BM25Index(texts).search_all([query.text for query in chosen], 50)
    pairs: list[Pair] = [(q.text, texts[i]) for q, indices in zip(chosen, found, strict=True) for i in indices]
    qrels = {query.text: {str(i): 1 for i in query.relevant} for query in chosen}

    def quality(scores: list[float]) -> float:
        rows = zip(chosen, found, np.reshape(scores, found.shape), strict=True)
        run = {query.text: ranked([str(i) for i in indices], row.tolist()) for query, indices, row in rows}
        return float(measure(qrels, run, depth=50)["nDCG@10"].mean())

    assert scorer.cutoff_layers == CUTOFFS
    first, last = map(quality, scorer.score_layers(pairs, (CUTOFFS[0], CUTOFFS[-1])).values())
    rng = np.random.default_rng(0)
    chance = np.mean([quality(rng.random(found.size).tolist()) for _ in range(20)])
    assert last > first > chance
    assert last > 2 * chance


def test_matching_pairs_of_the_tutorial_are_above_the_others(scorer: Scorer) -> None:
    assert matching_are_above(scorer.score_pairs(TUTORIAL))


def test_a_copy_on_disk_gives_the_same_scores(scorer: Scorer, tmp_path: Path) -> None:
    find_checkpoint(ModelSource(f"demo-{scorer.family}")).copy_to(tmp_path)
    with load_scorer(tmp_path, devices="cpu", dtype="float32") as copied:
        assert copied.family == scorer.family
        assert copied.score_pairs(TUTORIAL) == scorer.score_pairs(TUTORIAL)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_compression_changes_scores_and_keeps_the_tutorials_order(lightweight: Scorer, ratio: int) -> None:
    compressed = lightweight.with_options(compress_ratio=ratio, compress_layers=4).score_pairs(TUTORIAL)
    assert compressed != pytest.approx(lightweight.score_pairs(TUTORIAL), abs=1e-3)
    assert matching_are_above(compressed)


@pytest.mark.parametrize("layer", CUTOFFS)
def test_either_head_gives_the_same_scores(lightweight: Scorer, layer: int) -> None:
    at_layer = lightweight.with_options(cutoff_layer=layer)
    assert at_layer.with_options(head_index="layer").score_pairs(TUTORIAL) == at_layer.score_pairs(TUTORIAL)
