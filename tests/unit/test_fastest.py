"""Which dtype is taken, by a clock that stands still unless a scorer moves it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import DeviceError, OptionError, ScoreError
from bge_rerank_integrations.fastest import fastest, rank_correlation, sample
from bge_rerank_integrations.loading import resolve
from bge_rerank_integrations.options import ModelSource, Placement


@dataclass
class Machine:
    """How long scoring takes in each dtype, and what it gives."""

    seconds: dict[str, float]
    scores: dict[str, Callable[[int], float]] = field(default_factory=dict)
    now: float = 0.0
    loaded: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def load(self, dtype: str) -> Timed:
        assert not self.loaded, "one model in memory at a time"
        if dtype not in self.seconds:
            raise DeviceError(f"no {dtype} here")
        self.loaded.append(dtype)
        return Timed(self, dtype)

    def choose(self) -> str:
        return fastest(self.load, ("float32", "bfloat16", "int8"), lambda: self.now)  # type: ignore[arg-type]


@dataclass
class Timed:
    """As much of a scorer as is asked."""

    machine: Machine
    dtype: str

    def score_pairs(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        self.machine.now += self.machine.seconds[self.dtype]
        self.machine.calls.append(self.dtype)
        return [self.machine.scores.get(self.dtype, float)(place) for place, _ in enumerate(pairs)]

    def close(self) -> None:
        self.machine.loaded.remove(self.dtype)


def test_the_quickest_that_ranks_alike_is_taken() -> None:
    assert Machine({"float32": 3.0, "bfloat16": 2.0, "int8": 1.0}).choose() == "int8"


def test_a_quicker_one_that_ranks_otherwise_is_not_taken() -> None:
    machine = Machine({"float32": 3.0, "bfloat16": 2.0, "int8": 1.0}, {"int8": lambda place: float(place % 40)})
    assert machine.choose() == "bfloat16"


def test_equal_scores_for_all_are_another_ranking() -> None:
    assert Machine({"float32": 3.0, "int8": 1.0}, {"int8": lambda place: 0.5}).choose() == "float32"


def test_what_does_not_run_here_is_left_out() -> None:
    assert Machine({"float32": 3.0, "int8": 4.0}).choose() == "float32"


def test_what_gives_no_number_is_left_out() -> None:
    def overflow(place: int) -> float:
        raise ScoreError("inf")

    assert Machine({"float32": 3.0, "bfloat16": 1.0, "int8": 2.0}, {"bfloat16": overflow}).choose() == "int8"


def test_without_float32_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(DeviceError, match="no float32 here"):
        Machine({"int8": 1.0}).choose()


def test_a_hopeless_one_is_not_timed_to_the_end() -> None:
    machine = Machine({"float32": 1.0, "bfloat16": 8.0, "int8": 1.5})
    assert machine.choose() == "float32"
    assert machine.calls.count("bfloat16") < machine.calls.count("int8") == machine.calls.count("float32")


def test_the_log_says_what_was_measured(caplog: pytest.LogCaptureFixture) -> None:
    Machine({"float32": 3.0, "bfloat16": 2.0}).choose()
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "chose bfloat16" in record.message
    assert "float32 3 s, rank correlation 1.0000; bfloat16 2 s" in record.message


def test_the_sentences_are_different_texts_for_several_queries() -> None:
    pairs = sample()
    assert len(set(pairs)) == len(pairs) == 48
    assert len({query for query, _ in pairs}) == 4
    assert all(query.strip() and text.strip() for query, text in pairs)


def test_rank_correlation_is_spearmans() -> None:
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 200.0, 3000.0]) == 1.0
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    # by hand: squared differences of ranks 0, 1, 1: 1 - 6 * 2 / (3 * 8)
    assert rank_correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    # ties share the mean of their places: ranks 1, 2.5, 2.5 against 1, 2, 3
    assert rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 2.0]) == pytest.approx(0.75**0.5)


def test_a_model_is_loaded_in_what_was_chosen(caplog: pytest.LogCaptureFixture) -> None:
    pairs = sample()[:8]
    with load_scorer("demo", devices="cpu", dtype="fastest") as scorer, load_scorer("demo", devices="cpu") as exact:
        assert f"chose {scorer.dtype}" in caplog.text
        assert scorer.score_pairs(pairs) == pytest.approx(exact.score_pairs(pairs), abs=0.1)
        with pickle.loads(pickle.dumps(scorer)) as copy:
            assert copy.dtype == scorer.dtype
    assert caplog.text.count("chose") == 1  # the copy is not measured again


def test_where_nothing_is_loaded_a_dtype_must_be_named() -> None:
    with pytest.raises(OptionError, match="name a dtype here"):
        resolve(ModelSource("demo"), Placement("cpu", "fastest"))
