"""Decoders work out what passages of one query begin with once: no score may change by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bge_rerank_integrations import Scorer
from bge_rerank_integrations.model.packing import TokenSequence, pack

DECODERS = ("llm", "layerwise", "lightweight")
QUERY = "What does the publisher of a reranker say about the order of passages, and of what use is it to anyone? " * 3
TEXTS = ["", "Paris is the capital of France.", "A reranker orders passages. " * 9, "of passages", "of passages"]


@pytest.mark.parametrize("family", DECODERS)
def test_scores_are_those_of_each_pair_alone(family: str, scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers(family)
    queries = ["", "short", QUERY]
    together = scorer.score_pairs([(query, text) for query in queries for text in TEXTS])
    alone = [scorer.score(query, [text])[0] for query in queries for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-5)


def test_compression_and_cutoffs_over_a_shared_query(scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers("lightweight")
    cutoffs = scorer.cutoff_layers
    compressing = scorer.with_options(compress_ratio=2, compress_layers=(1, 2))
    together = compressing.score_layers([(QUERY, text) for text in TEXTS], cutoffs)
    for place, text in enumerate(TEXTS):
        alone = compressing.score_layers([(QUERY, text)], cutoffs)
        for layer in cutoffs:
            assert together[layer][place] == pytest.approx(alone[layer][0], abs=1e-5)


def test_tokens_that_sequences_share_lie_there_once() -> None:
    shared = [TokenSequence([1, 2, 3, length] * length, (3, 4), prefix=3) for length in (2, 1)]
    other = TokenSequence([7, 8, 9], (2, 3), prefix=2)
    batch = pack([*shared, other], torch.device("cpu"))
    assert batch.layout.lengths == (5, 1, 3, 3)
    assert batch.layout.prefixes == (3, 3, 2, 3)
    assert batch.layout.context.lengths == (8, 4, 3, 3)
    assert batch.ids[batch.layout.context_index].tolist() == [*shared[0].ids, *shared[1].ids, *other.ids, 1, 2, 3]
    assert batch.layout.positions.tolist() == [3, 4, 5, 6, 7, 3, 0, 1, 2, 0, 1, 2]
    assert batch.passages == ((0, 1), (0, 1), (2, 3), (0, 0))
