"""Measures and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval

from bge_rerank_integrations.evaluation.metrics import estimate, measure
from bge_rerank_integrations.evaluation.trec import ranked


@pytest.mark.parametrize("relevant", ["d0", "d3"])
def test_a_query_of_equal_scores_keeps_the_first_stages_order(relevant: str) -> None:
    """trec_eval alone would put d3, the last name, first."""
    values = measure({"q": {relevant: 1}}, {"q": ranked(["d0", "d1", "d2", "d3"], [7.0] * 4)}, 4)
    rank = int(relevant[1]) + 1
    assert values["MRR@10"].tolist() == [1 / rank]
    assert values["nDCG@10"].tolist() == pytest.approx([1 / np.log2(rank + 1)])


def test_measures_are_those_of_trec_eval() -> None:
    random = np.random.default_rng(5)
    documents = [f"d{i}" for i in range(40)]
    qrels = {f"q{i}": {d: int(random.integers(0, 3)) for d in random.choice(documents, 8, False)} for i in range(20)}
    run = {query: ranked(documents, random.integers(0, 9, 40).tolist()) for query in qrels}
    values = measure(qrels, {**run, "q7": {}}, 40)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recall_10", "recall_40", "map"}).evaluate(run)
    for ours, name in (("nDCG@10", "ndcg_cut_10"), ("R@10", "recall_10"), ("R@40", "recall_40"), ("MAP", "map")):
        wanted = [0.0 if query == "q7" else theirs[query][name] for query in qrels]
        assert values[ours].tolist() == pytest.approx(wanted)


def test_intervals() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    found = estimate({"a": values, "b": values - values})
    assert found["a"].value == pytest.approx(values.mean())
    assert found["a"].low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.002)
    assert found["a"].high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.002)
    assert (found["b"].low, found["b"].high) == (0, 0)
    assert estimate({"a": values[:1]})["a"].low is None
