"""What must hold whatever the texts: a score depends on its own pair alone, and options mean what they say."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bge_rerank_integrations import Scorer, load_scorer
from tests.conftest import CHECKPOINTS, FAMILIES, pairs

Get = Callable[[str], Scorer]
SPECIAL = ["</s>", "<s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>", "\n", "\ud800", "\udfff", "\x00", "A: ", "B: "]
TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(st.characters(categories=("Cs", "Cc", "Lo", "Mn", "So", "Zs")), max_size=40),
    st.lists(st.sampled_from([*SPECIAL, "word", "大熊猫", "Россия"]), max_size=12).map("".join),
)
COUNTS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("family", FAMILIES)
@COUNTS
@given(batch=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_a_score_alone_is_the_score_in_any_batch(family: str, scorers: Get, batch: list[tuple[str, str]]) -> None:
    scorer = scorers(family)
    together = scorer.score_pairs(batch)
    alone = [scorer.score_pairs([pair])[0] for pair in batch]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_order_and_batch_size_do_not_matter(family: str, scorers: Get) -> None:
    everything = pairs("mixed") + pairs("odd")
    expected = dict(zip(everything, scorers(family).score_pairs(everything), strict=True))
    shuffled = random.Random(1).sample(everything, len(everything))
    for budget in (1, 100, 1000, 100_000):
        with load_scorer(CHECKPOINTS / family, token_budget=budget) as scorer:
            assert scorer.score_pairs(shuffled) == pytest.approx([expected[pair] for pair in shuffled], abs=1e-5)


@pytest.mark.parametrize("family", ["layerwise", "lightweight"])
@COUNTS
@given(cutoffs=st.lists(st.integers(3, 8), min_size=1, max_size=6, unique=True), ratio=st.sampled_from([1, 2, 4, 8]))
def test_several_cutoffs_at_once_are_each_alone(family: str, scorers: Get, cutoffs: list[int], ratio: int) -> None:
    scorer = scorers(family)
    if family == "lightweight":
        scorer = scorer.with_options(compress_ratio=ratio, compress_layers=(3, 5), head_index="layer")
    few = pairs("mixed")[:4]
    for layer, scores in scorer.score_layers(few, cutoffs).items():
        assert scores == pytest.approx(scorer.with_options(cutoff_layer=layer).score_pairs(few), abs=1e-5)


def test_head_by_position_is_the_first_head(scorers: Get) -> None:
    scorer, few = scorers("lightweight"), pairs("france")
    by_position = scorer.score_layers(few, [8, 3])
    assert by_position[8] == pytest.approx(scorer.score_layers(few, [8])[8], abs=1e-6)
    by_layer = scorer.with_options(head_index="layer").score_layers(few, [8, 3])
    assert by_layer[8] != pytest.approx(by_position[8], abs=1e-3)
    assert by_layer[3] == pytest.approx(scorer.score_layers(few, [3])[3], abs=1e-6)  # head 0 is that of layer 3


@pytest.mark.parametrize("layers", [(3,), (0, 7), (5, 6)])
def test_compression_after_the_cutoff_changes_nothing(scorers: Get, layers: tuple[int, ...]) -> None:
    """As in the publisher's own example, which merges before layer 40 and scores after layer 28."""
    cut = scorers("lightweight").with_options(cutoff_layer=3)
    same = cut.with_options(compress_ratio=4, compress_layers=layers)
    assert same.score_pairs(pairs("mixed")) == pytest.approx(cut.score_pairs(pairs("mixed")), abs=1e-6)


def test_a_ratio_of_one_compresses_nothing(scorers: Get) -> None:
    plain = scorers("lightweight").score_pairs(pairs("mixed"))
    ratio_one = scorers("lightweight").with_options(compress_ratio=1, compress_layers=(3, 5))
    assert ratio_one.score_pairs(pairs("mixed")) == pytest.approx(plain, abs=1e-6)


def test_attention_softcap_changes_scores(scorers: Get) -> None:
    plain = scorers("lightweight")
    capped = plain.with_options(attention_softcap=True)
    assert capped.score_pairs(pairs("france")) != pytest.approx(plain.score_pairs(pairs("france")), abs=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_truncation_at_every_length(family: str, scorers: Get) -> None:
    """From a max_length that keeps next to nothing to one that keeps all: never an error, and equal at the end."""
    query, text = "what is it " * 3, "one two three four five six seven eight nine ten " * 3
    scorer = scorers(family)
    whole = scorer.score(query, [text])
    scores = [
        scorer.with_options(max_length=length, query_max_length=query_length).score(query, [text])
        for length in range(6, 130, 2)
        for query_length in (None, 1, length, 2 * length)
    ]
    assert scores[-1] == pytest.approx(whole, abs=1e-6)
    assert scores[0] != pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_very_long_texts(family: str, scorers: Get) -> None:
    before = scorers(family).truncated_pairs
    long = "long text, " * 10_000
    (score,) = scorers(family).score("q", [long])
    assert score == pytest.approx(scorers(family).score("q", [long[: len(long) // 2]])[0], abs=1e-6)
    assert scorers(family).truncated_pairs == before + 2


@pytest.mark.parametrize("family", ["llm", "layerwise", "lightweight"])
def test_prompts_by_name_or_text(family: str, scorers: Get) -> None:
    from bge_rerank_integrations.prompts import PROMPTS

    few = pairs("france")
    by_name = {name: scorers(family).with_options(prompt=name).score_pairs(few) for name in PROMPTS}
    by_text = {name: scorers(family).with_options(prompt=text).score_pairs(few) for name, text in PROMPTS.items()}
    assert by_name == by_text
    assert len({tuple(scores) for scores in by_name.values()}) == len(PROMPTS)
    default = "answer" if family == "lightweight" else "answer_yes_no"
    assert scorers(family).score_pairs(few) == by_name[default]
