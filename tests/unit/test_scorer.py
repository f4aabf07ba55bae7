"""The scorer: options, cutoffs, clamping, counting, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import ClosedError, OptionError
from tests.conftest import CHECKPOINTS, FAMILIES

ENCODER = CHECKPOINTS / "encoder"


def test_nothing_to_score(encoder: Scorer) -> None:
    assert encoder.score("q", []) == []
    assert encoder.score_pairs([]) == []
    assert encoder.rank("q", []) == []
    assert asyncio.run(encoder.ascore("q", [])) == []


@pytest.mark.parametrize(
    "option",
    [
        {"max_length": 0},
        {"max_length": "512"},
        {"max_length": 5},
        {"query_max_length": -1},
        {"scale": "percent"},
        {"query_instruction": 3},
        {"prompt": ["a"]},
        {"compress_ratio": 3},
        {"compress_layers": "8"},
        {"compress_layers": (-1,)},
        {"cutoff_layer": 0},
        {"head_index": "last"},
        {"attention_softcap": "yes"},
    ],
)
def test_an_option_out_of_range_is_refused(encoder: Scorer, option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(OptionError, match=name):
        load_scorer(ENCODER, **option)
    with pytest.raises(OptionError, match=name):
        encoder.with_options(**option)


def test_an_unknown_option_is_refused_with_the_known_ones(encoder: Scorer) -> None:
    with pytest.raises(OptionError, match=r"'maximal'.*max_length, query_max_length"):
        encoder.with_options(maximal=3)
    with pytest.raises(TypeError, match="max_len"):
        load_scorer(ENCODER, max_len=3)  # type: ignore[call-arg]


OTHERS = [
    ("encoder", {"prompt": "p"}),
    ("encoder", {"cutoff_layer": 2}),
    ("encoder", {"compress_ratio": 2}),
    ("llm", {"cutoff_layer": 2}),
    ("llm", {"compress_ratio": 2}),
    ("layerwise", {"compress_ratio": 2}),
    ("layerwise", {"head_index": "layer"}),
    ("layerwise", {"attention_softcap": True}),
]


@pytest.mark.parametrize(("family", "option"), OTHERS)
def test_an_option_of_another_family_is_refused(
    family: str, option: dict[str, Any], scorers: Callable[[str], Scorer]
) -> None:
    (name,) = option
    with pytest.raises(OptionError, match=rf"{name}.*{family} family"):
        load_scorer(CHECKPOINTS / family, **option)
    with pytest.raises(OptionError, match=rf"{name}.*{family} family"):
        scorers(family).with_options(**option)


@pytest.mark.parametrize("family", ["encoder", "llm"])
def test_families_without_cutoffs_say_so(family: str, scorers: Callable[[str], Scorer]) -> None:
    with pytest.raises(OptionError, match="no cutoff layers"):
        scorers(family).score_layers([("q", "a")], [2])


@pytest.mark.parametrize("family", ["layerwise", "lightweight"])
@pytest.mark.parametrize("layer", [2, 9, 100])
def test_an_impossible_cutoff_names_the_possible_ones(
    family: str, layer: int, scorers: Callable[[str], Scorer]
) -> None:
    with pytest.raises(OptionError, match="3 to 8"):
        load_scorer(CHECKPOINTS / family, cutoff_layer=layer)
    with pytest.raises(OptionError, match="3 to 8"):
        scorers(family).score_layers([("q", "a")], [3, layer])


@pytest.mark.parametrize("layers", [8, (4, 8), (100,), (0,), ()])
def test_compression_that_the_model_cannot_show_is_refused(layers: Any, scorers: Callable[[str], Scorer]) -> None:
    """Its layers are 0 to 7, and before the first there is nothing to merge yet."""
    said = r"compress_layers=\(.*\) with compress_ratio=2: this model can merge before layers 1 to 7, counted from 0"
    with pytest.raises(OptionError, match=said):
        load_scorer(CHECKPOINTS / "lightweight", compress_ratio=2, compress_layers=layers)
    with pytest.raises(OptionError, match=said):
        scorers("lightweight").with_options(compress_ratio=2, compress_layers=layers)
    assert scorers("lightweight").with_options(compress_layers=layers).score("q", ["a"])  # nothing is to be merged


def test_a_closed_scorer_says_so() -> None:
    scorer = load_scorer(ENCODER)
    other = scorer.with_options(scale="sigmoid")
    scorer.close()
    scorer.close()
    assert scorer.closed
    assert other.closed
    for use in (scorer, other):
        with pytest.raises(ClosedError, match="closed"):
            use.score("q", ["a"])
        with pytest.raises(ClosedError, match="closed"):
            asyncio.run(use.ascore("q", ["a"]))


def test_with_closes() -> None:
    with load_scorer(ENCODER) as scorer:
        assert not scorer.closed
    assert scorer.closed


def test_max_length_is_clamped_with_one_warning() -> None:
    with pytest.warns(UserWarning, match="max_length=9000 is more than the 512 tokens"):
        scorer = load_scorer(ENCODER, max_length=9000)
    with scorer:  # any further warning would be an error here
        assert scorer.score("q", ["word " * 2000]) == scorer.with_options(max_length=512).score("q", ["word " * 2000])


def test_truncated_pairs_are_counted() -> None:
    with load_scorer(ENCODER, max_length=32) as scorer:
        assert scorer.truncated_pairs == 0
        scorer.score("q", ["short", "word " * 100, "word " * 200])
        assert scorer.truncated_pairs == 2
        scorer.with_options(max_length=512).score("q", ["word " * 100])
        assert scorer.truncated_pairs == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_sigmoid_is_the_sigmoid_of_the_logit(family: str, scorers: Callable[[str], Scorer]) -> None:
    from math import exp

    logit = scorers(family)
    logits = logit.score("q", ["a", "some text"])
    assert logit.with_options(scale="sigmoid").score("q", ["a", "some text"]) == pytest.approx(
        [1 / (1 + exp(-x)) for x in logits], abs=1e-12
    )


def test_options_leave_the_first_scorer_alone(encoder: Scorer) -> None:
    before = encoder.score("q", ["a"])
    assert encoder.with_options(query_instruction="find: ").score("q", ["a"]) != before
    assert encoder.score("q", ["a"]) == before
    assert encoder.options.query_instruction is None
