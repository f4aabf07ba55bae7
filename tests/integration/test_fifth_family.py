"""A family is one file and one line of the table: a fifth one goes everywhere that the four go."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.bench.run import benchmark
from bge_rerank_integrations.errors import OptionError, UnknownFamilyError
from bge_rerank_integrations.evaluation import evaluate, read_beir
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import FAMILIES
from tests.beir_example import QUERIES, write_beir
from tests.conftest import CHECKPOINTS
from tests.toy_family import write_toy

if TYPE_CHECKING:
    from tests.integration.conftest import Adapter

TEXTS = ["Paris is the capital of France.", "a", "", "bread " * 30]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table with one more line, and a checkpoint of that family."""
    monkeypatch.setitem(FAMILIES, "toy", "tests.toy_family:ToyFamily")
    return write_toy(tmp_path / "toy-reranker")


@pytest.fixture
def scorer(toy: Path) -> Iterator[Scorer]:
    with load_scorer(toy) as scorer:
        yield scorer


def by_hand(folder: Path, query: str, text: str) -> float:
    """The score, worked out one pair at a time from the files."""
    tensors = load_file(folder / "model.safetensors")
    ids = Checkpoint(folder).tokenizer.encode(query, text).ids
    start = ids.index(2) + 2  # after </s></s>
    words = tensors["words.weight"][ids]
    turned = words @ tensors["turn.weight"].T + tensors["turn.bias"]
    return float(words[:start].sum(0) @ turned[start:].sum(0))


def test_it_is_found_by_its_config_and_by_its_name(toy: Path, scorer: Scorer) -> None:
    assert scorer.family == "toy"
    expected = [by_hand(toy, "capital of France", text) for text in TEXTS]
    assert scorer.score("capital of France", TEXTS) == pytest.approx(expected, abs=1e-4)
    with load_scorer(toy, family="toy", devices=["cpu", "cpu"], scale="sigmoid") as two:
        assert two.rank("capital of France", TEXTS)[0].index == expected.index(max(expected))


def test_it_has_what_every_family_has(toy: Path, scorer: Scorer) -> None:
    assert scorer.cutoff_layers == ()
    with pytest.raises(OptionError, match="toy family has no cutoff layers"):
        scorer.score_layers([("q", "a")], [1])
    with pytest.raises(OptionError, match=r"prompt='p' is not an option of the toy family.*none of its own"):
        scorer.with_options(prompt="p")
    with pytest.raises(OptionError, match=r"family='toys': use one of encoder, .*toy"):
        load_scorer(toy, family="toys")
    with pytest.raises(UnknownFamilyError, match=r"'xlm-roberta' .* is not one that the toy family runs: bag-of-words"):
        load_scorer(CHECKPOINTS / "encoder", family="toy")
    with pickle.loads(pickle.dumps(scorer)) as loaded_again:
        assert loaded_again.score("q", TEXTS) == scorer.score("q", TEXTS)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_its_products_are_made_faster_too(toy: Path, scorer: Scorer, dtype: str) -> None:
    with load_scorer(toy, dtype=dtype) as rounded:
        assert rounded.score("q", TEXTS) == pytest.approx(scorer.score("q", TEXTS), rel=0.05, abs=0.05)


def test_both_adapters(adapter: Adapter, toy: Path, scorer: Scorer) -> None:
    reranker = adapter.new(model=str(toy), family="toy")
    assert adapter.score(reranker, "q", ["some text", "bread"]) == scorer.score("q", ["some text", "bread"])
    reranker.close()


def test_evaluate(toy: Path, tmp_path: Path) -> None:
    data = read_beir(write_beir(tmp_path))
    result = evaluate(data, [f"{toy},max_length=32+64"], timing_queries=1)
    assert [row.name for row in result.rows[1:]] == ["toy-reranker,max_length=32", "toy-reranker,max_length=64"]
    assert all(row.seconds is not None for row in result.rows[1:])
    assert result.queries == len(QUERIES) - 1
    with pytest.raises(OptionError, match="not an option of the toy family"):
        evaluate(data, f"{toy},cutoff_layer=1")


def test_bench(toy: Path) -> None:
    report = benchmark(str(toy), ["transformers", "flagembedding"], ["single"], rounds=1, device="cpu")
    problems: dict[str, Any] = {timing.peer: timing.problem for timing in report.timings}
    reason = "does not run the toy family"
    assert problems == {"ours": None, "transformers": reason, "flagembedding": reason}
    assert report.family == "toy"
