"""The scores of the publisher's library, through checkpoints on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bge_rerank_integrations import Scorer, flag
from tests.conftest import CHECKPOINTS, golden, pairs

FLAG_CLASSES = {
    "encoder": flag.FlagReranker,
    "llm": flag.FlagLLMReranker,
    "layerwise": flag.LayerWiseFlagLLMReranker,
    "lightweight": flag.LightWeightFlagLLMReranker,
}
CASES = golden()["cases"]
NAMES = [f"{case['family']}-{case['pairs']}-{case['init'] | case['call']}" for case in CASES]
INSTRUCTIONS = {
    "query_instruction_for_rerank": "query_instruction",
    "passage_instruction_for_rerank": "passage_instruction",
}


def test_there_are_46_cases() -> None:
    assert len(CASES) == 46


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_flag_gives_the_publishers_scores(case: dict[str, Any]) -> None:
    reranker = FLAG_CLASSES[case["family"]](CHECKPOINTS / case["family"], devices="cpu", **case["init"])
    scores = reranker.compute_score(pairs(case["pairs"]), **case["call"])
    reranker.stop_self_pool()
    wanted = case["scores"]
    if isinstance(wanted[0], list):
        assert len(scores) == len(wanted)
        for got, want in zip(scores, wanted, strict=True):
            assert got == pytest.approx(want, abs=1e-4)
    else:
        assert scores == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_scorer_gives_the_publishers_scores(case: dict[str, Any], scorers: Callable[[str], Scorer]) -> None:
    options = {INSTRUCTIONS[name]: value for name, value in case["init"].items() if name in INSTRUCTIONS}
    call = dict(case["call"])
    cutoffs = call.pop("cutoff_layers", None)
    if call.pop("normalize", False):
        options["scale"] = "sigmoid"
    scorer = scorers(case["family"]).with_options(**options, **call)
    if cutoffs is None:
        assert scorer.score_pairs(pairs(case["pairs"])) == pytest.approx(case["scores"], abs=1e-4)
        return
    by_layer = scorer.score_layers(pairs(case["pairs"]), cutoffs)
    wanted = case["scores"] if isinstance(case["scores"][0], list) else [case["scores"]]
    for layer, want in zip(cutoffs, wanted, strict=True):
        assert by_layer[layer] == pytest.approx(want, abs=1e-4)
