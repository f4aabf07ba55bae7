"""What the adapters share: the options as fields, and a scorer that is loaded once somebody needs it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bge_rerank_integrations.adapter_fields import (
    LOADING_FIELDS,
    SCORING_FIELDS,
    LazyScorer,
    ScorerFields,
)
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import GROUPS, RankingOptions, names
from bge_rerank_integrations.rerank_fields import RerankFields
from tests.conftest import CHECKPOINTS

ENCODER = str(CHECKPOINTS / "encoder")


def test_fields_are_the_options_and_each_is_of_one_kind() -> None:
    options = [name for group in GROUPS for name in names(group)]
    assert sorted(["model", *LOADING_FIELDS, *SCORING_FIELDS]) == sorted(options)
    assert set(RerankFields.model_fields) == {*options, "scorer", *names(RankingOptions), "top_n", "score_threshold"}


def test_paths_become_strings_so_that_fields_can_be_written_as_json(tmp_path: Path) -> None:
    made = ScorerFields(model=tmp_path, cache_dir=tmp_path)
    assert (made.model, made.cache_dir) == (str(tmp_path), str(tmp_path))
    again = ScorerFields.model_validate_json(made.model_dump_json())
    assert again == made


def test_layers_are_a_list_as_json_has_them() -> None:
    assert ScorerFields(model=ENCODER, compress_layers=[8]) == ScorerFields(model=ENCODER)
    assert ScorerFields(model=ENCODER, compress_layers=4).compress_layers == [4]
    for layers in ({4}, range(4, 5), np.array([4]), iter([4])):  # as load_scorer takes them
        fields = ScorerFields(model=ENCODER, compress_layers=layers)
        assert ScorerFields.model_validate_json(fields.model_dump_json()).compress_layers == [4]


def test_what_belongs_to_a_process_is_not_written() -> None:
    made = ScorerFields(model=ENCODER, on_batch=print)
    assert not {"on_batch", "scorer"} & made.model_dump().keys()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give model= "),
        ({"model": ENCODER, "max_length": 0}, "max_length=0"),
        ({"model": ENCODER, "dtype": "int3"}, "dtype='int3'"),
        ({"model": ENCODER, "timeout": -1}, "timeout=-1"),
        ({"model": ENCODER, "family": "gpt"}, "family='gpt': use one of encoder"),
        ({"model": ENCODER, "max_len": 3}, "max_len"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_given(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        ScorerFields(**fields)


def test_a_refused_value_leaves_every_field_as_it_was() -> None:
    made = ScorerFields(model=ENCODER)
    before = (made.model_dump(), set(made.model_fields_set))
    with pytest.raises(OptionError, match="compress_ratio=3"):
        made.compress_ratio = 3
    assert (made.model_dump(), set(made.model_fields_set)) == before


def test_a_lazy_scorer_loads_once_and_again_for_another_model() -> None:
    lazy, loading = LazyScorer(), {"devices": "cpu"}
    first = lazy.get(ENCODER, loading, {"max_length": 64})
    assert lazy.get(ENCODER, loading, {"max_length": 64}) is first
    other = lazy.get(ENCODER, loading, {"max_length": 32})  # the same weights under other options
    assert other.options.max_length == 32
    assert first.score("q", ["a"]) == other.score("q", ["a"])
    lazy.close()
    assert first.closed
    again = lazy.get(ENCODER, loading, {"max_length": 64})
    assert not again.closed
    lazy.close()
    lazy.close()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_of_a_lazy_scorer_start_without_a_model(copied: Any) -> None:
    lazy = LazyScorer()
    first = lazy.get(ENCODER, {}, {})
    other = copied(lazy)
    assert other == lazy  # or adapters of equal fields would differ once one was used
    own = other.get(ENCODER, {}, {})
    lazy.close()
    assert first.closed
    assert not own.closed
    other.close()


def test_one_that_is_shared_uses_the_same_model() -> None:
    lazy = LazyScorer()
    first = lazy.get(ENCODER, {}, {})
    other = lazy.shared(ENCODER, {})
    changed = other.get(ENCODER, {}, {"max_length": 32})
    assert changed.options.max_length == 32
    assert changed.stats().pairs == first.stats().pairs == 0
    first.score("q", ["a"])
    assert changed.stats().pairs == 1  # one engine
    lazy.close()
    assert changed.closed
