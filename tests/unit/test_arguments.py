"""Wrong arguments are refused with the value and the remedy; odd but possible ones work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations import Ranked, Scorer, load_scorer
from bge_rerank_integrations.errors import CheckpointError, ClosedError, DeviceError, OptionError
from tests.conftest import CHECKPOINTS, FAMILIES

ENCODER = CHECKPOINTS / "encoder"


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["nested"], float("nan")])
def test_a_text_that_is_no_string_is_named_with_its_index(encoder: Scorer, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"texts\[2\]"):
        encoder.score("q", ["a", "b", bad])
    with pytest.raises(TypeError, match=r"text of pairs\[1\]"):
        encoder.score_pairs([("q", "a"), ("q", bad)])
    with pytest.raises(TypeError, match="query"):
        encoder.score(bad, ["a"])
    with pytest.raises(TypeError, match=r"texts\[0\]"):
        asyncio.run(encoder.ascore("q", [bad]))


@pytest.mark.parametrize("bad", ["one string", None, 3])
def test_texts_must_be_a_list(encoder: Scorer, bad: Any) -> None:
    with pytest.raises(TypeError, match="list of strings"):
        encoder.score("q", bad)


@pytest.mark.parametrize("bad", ["q", None, [("q", "a", "b")], ["qa"], [("q",)], [3]])
def test_pairs_must_be_pairs(encoder: Scorer, bad: Any) -> None:
    with pytest.raises(TypeError, match="pair"):
        encoder.score_pairs(bad)


def test_nothing_to_score(encoder: Scorer) -> None:
    assert encoder.score("q", []) == []
    assert encoder.score_pairs([]) == []
    assert encoder.rank("q", []) == []
    assert asyncio.run(encoder.ascore("q", [])) == []


def test_any_sequence_or_iterator_will_do(encoder: Scorer) -> None:
    expected = encoder.score("q", ["a", "b"])
    assert encoder.score("q", ("a", "b")) == expected
    assert encoder.score_pairs(("q", text) for text in "ab") == expected
    assert encoder.score_pairs([["q", "a"], ["q", "b"]]) == expected  # type: ignore[list-item]


def test_rank_orders_and_cuts(encoder: Scorer) -> None:
    texts = ["a", "b c", "a", "", "d e f g"]
    scores = encoder.score("q", texts)
    ranked = encoder.rank("q", texts)
    assert [r.score for r in ranked] == sorted(scores, reverse=True)
    assert [r.index for r in ranked if texts[r.index] == "a"] == [0, 2]  # ties keep their order
    assert all(type(r.score) is float and scores[r.index] == r.score for r in ranked)
    assert encoder.rank("q", texts, top_n=2) == ranked[:2]
    assert encoder.rank("q", texts, top_n=0) == []
    assert encoder.rank("q", texts, top_n=99) == ranked
    threshold = ranked[2].score
    assert encoder.rank("q", texts, score_threshold=threshold) == [r for r in ranked if r.score >= threshold]
    assert ranked[0] == Ranked(ranked[0].index, ranked[0].score)


@pytest.mark.parametrize(("top_n", "error"), [(-1, ValueError), (2.0, TypeError), ("3", TypeError), (True, TypeError)])
def test_a_bad_top_n_is_refused(encoder: Scorer, top_n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="top_n"):
        encoder.rank("q", ["a"], top_n=top_n)


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
    with pytest.raises(OptionError, match=r"'max_len'.*max_length, query_max_length"):
        encoder.with_options(max_len=3)
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


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "xpu", "cpu:x", 3, "mps:7"])
def test_a_device_that_does_not_exist_is_refused(device: Any) -> None:
    with pytest.raises(DeviceError, match=str(device)):
        load_scorer(ENCODER, devices=[device])


def test_no_device_at_all_is_refused() -> None:
    with pytest.raises(DeviceError, match="empty"):
        load_scorer(ENCODER, devices=[])


@pytest.mark.parametrize("dtype", ["double", "int4", None])
def test_an_unknown_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(OptionError, match="dtype"):
        load_scorer(ENCODER, dtype=dtype)


@pytest.mark.parametrize("model", ["", None, 3])
def test_no_model_at_all(model: Any) -> None:
    with pytest.raises(TypeError, match="model"):
        load_scorer(model)


@pytest.mark.parametrize("model", ["./nowhere", "/no/where", "nowhere", "a/b/c", Path("some/where")])
def test_a_folder_that_does_not_exist(model: str | Path) -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        load_scorer(model)


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_on_the_cpu(family: str, dtype: str, scorers: Callable[[str], Scorer]) -> None:
    texts = ["a", "some longer text", "word " * 50]
    with load_scorer(CHECKPOINTS / family, dtype=dtype, devices="cpu") as half:
        assert half.score("q", texts) == pytest.approx(scorers(family).score("q", texts), abs=0.15)


def test_two_replicas_give_the_same_scores(encoder: Scorer) -> None:
    texts = [f"text {i} " * (i % 40 + 1) for i in range(100)]
    with load_scorer(ENCODER, devices=["cpu", "cpu"], token_budget=512) as two:
        assert two.score("q", texts) == pytest.approx(encoder.score("q", texts), abs=1e-5)
