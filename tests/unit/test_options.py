"""Every option: its range, its group, and copies with some of them changed."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import (
    COMPRESS_RATIOS,
    DTYPES,
    GROUPS,
    NUMBER_LISTS,
    SWITCHES,
    TEXTS,
    WHOLE_NUMBERS,
    EngineSettings,
    ModelSource,
    Placement,
    RankingOptions,
    ScoringOptions,
    changed,
    foreign_options,
    names,
    pick,
)


def refused(group: type[Any], option: str, value: object) -> None:
    """That a value is refused with the option's name and the value as it was given."""
    with pytest.raises(OptionError) as caught:
        group(**{option: value})
    assert str(caught.value).startswith(f"{option}={value!r}: use ")


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "max_length": [0, -1, 512.0, "512", None, True],
        "query_max_length": [0, -1, 1.5, "9", False],
        "scale": ["percent", "", None, True],
        "query_instruction": [3, b"find: ", ["find: "]],
        "passage_instruction": [3, b"read: ", ["read: "]],
        "prompt": [3, b"Yes?", ["Yes?"]],
        "cutoff_layer": [0, -8, 8.0, "8", True, (8,)],
        "compress_ratio": [0, 3, 16, -2, 2.0, "2", None, True, [2]],
        "compress_layers": ["8", b"8", None, (-1,), (8, "16"), (8.0,), True, (True,)],
        "head_index": ["last", None, 0],
        "attention_softcap": ["yes", 1, None],
    }.items(),
)
def test_scoring_options_out_of_range_are_refused(option: str, values: list[Any]) -> None:
    for value in values:
        refused(ScoringOptions, option, value)


def test_every_scoring_option_has_values_that_are_refused() -> None:
    (parameters,) = (mark.args[1] for mark in test_scoring_options_out_of_range_are_refused.pytestmark)  # type: ignore[attr-defined]
    assert [option for option, _ in parameters] == list(names(ScoringOptions))


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "metadata_fields": ["title", "{text}: {title}", "{text}{text}", b"title", [1], [""], {"title": 1}, 3, None],
        "long": ["cut", None, 1],
        "window_overlap": [-1, 0.5, "64", None, True],
        "max_windows": [0, -1, 2.0, None, True],
        "blank": ["first", None, 0],
        "deduplicate": ["yes", 1, None],
        "fusion": ["sum", None, True],
        "fusion_weight": [-0.1, 1.1, float("nan"), "0.5", None, True],
    }.items(),
)
def test_ranking_options_out_of_range_are_refused(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(OptionError, match=re.escape(f"{option}={value!r}: ")):
            RankingOptions(**{option: value})


def test_every_ranking_option_has_values_that_are_refused() -> None:
    (parameters,) = (mark.args[1] for mark in test_ranking_options_out_of_range_are_refused.pytestmark)  # type: ignore[attr-defined]
    assert [option for option, _ in parameters] == list(names(RankingOptions))


@pytest.mark.parametrize(
    "setting", [{"token_budget": 0}, {"max_queued_tokens": 1.5}, {"timeout": 0}, {"timeout": "1"}, {"cache_size": -1}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(OptionError, match=name):
        EngineSettings(**({"token_budget": 1} | setting))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("token_budget", [0, -1, 2.0, "9", True]),
        ("max_queued_tokens", [0, None, 1.5, True]),
        ("timeout", [0, -1, float("nan"), "1", True]),
        ("cache_size", [-1, None, 0.5, False]),
    ],
)
def test_engine_settings_out_of_range_are_refused(option: str, values: list[Any]) -> None:
    for value in values:
        refused(EngineSettings, option, value)


@pytest.mark.parametrize("dtype", ["double", "Float32", "", None, 32])
def test_an_unknown_dtype_is_refused(dtype: Any) -> None:
    refused(Placement, "dtype", dtype)


@pytest.mark.parametrize(
    ("given", "name"),
    [("half", "float16"), ("fp16", "float16"), ("bf16", "bfloat16"), (torch.bfloat16, "bfloat16"), ("auto", "auto")],
)
def test_other_names_of_a_dtype(given: Any, name: str) -> None:
    assert Placement(dtype=given).dtype == name


@pytest.mark.parametrize(
    ("given", "names_"),
    [
        (0, "cuda:0"),
        (np.int64(1), "cuda:1"),
        (torch.device("cpu"), "cpu"),
        (torch.device("cuda", 2), "cuda:2"),
        (["cpu", 1], ("cpu", "cuda:1")),
        ((torch.device("cpu"), "cpu"), ("cpu", "cpu")),
        (None, None),
    ],
)
def test_other_ways_to_name_devices(given: Any, names_: object) -> None:
    assert Placement(devices=given).devices == names_


@pytest.mark.parametrize("kind", [np.int64, np.uint8, torch.tensor])
def test_whole_numbers_of_any_kind(kind: Any) -> None:
    options = ScoringOptions(max_length=kind(64), compress_ratio=kind(2), compress_layers=[kind(3), 2])
    assert options == ScoringOptions(max_length=64, compress_ratio=2, compress_layers=(2, 3))
    assert type(options.max_length) is type(options.compress_ratio) is int
    assert EngineSettings(cache_size=kind(5)).cache_size == 5


def test_a_time_without_end() -> None:
    assert EngineSettings(timeout=math.inf).timeout is None
    assert EngineSettings(timeout=np.float32(0.5)).timeout == 0.5  # type: ignore[arg-type]


def test_what_is_possible_is_taken() -> None:
    for dtype in ("auto", *DTYPES):
        assert Placement(dtype=dtype).dtype == dtype
    for ratio in COMPRESS_RATIOS:
        assert ScoringOptions(compress_ratio=ratio).compress_ratio == ratio
    assert EngineSettings(token_budget=1, max_queued_tokens=1, timeout=0.001, cache_size=0).token_budget == 1
    assert ScoringOptions(max_length=1, query_max_length=1, cutoff_layer=1, query_instruction="").max_length == 1


@pytest.mark.parametrize(
    ("given", "kept"), [(8, (8,)), (0, (0,)), ((), ()), ([16, 8], (8, 16)), ((8, 8, 4), (4, 8)), (range(3), (0, 1, 2))]
)
def test_layers_to_merge_before_are_kept_in_order_and_once(given: Any, kept: tuple[int, ...]) -> None:
    options = ScoringOptions(compress_layers=given)
    assert options.compress_layers == kept
    assert {options} == {ScoringOptions(compress_layers=kept)}  # a key of dictionaries, whatever it was given as


@pytest.mark.parametrize("options", [ModelSource("demo"), Placement(), EngineSettings(), ScoringOptions()])
def test_no_option_changes_in_place(options: Any) -> None:
    (name, *_) = names(type(options))
    with pytest.raises(FrozenInstanceError):
        setattr(options, name, "other")


def test_no_two_groups_have_an_option_of_one_name() -> None:
    counts = Counter(name for group in GROUPS for name in names(group))
    assert [name for name, count in counts.items() if count > 1] == []


def test_picking_a_group_takes_its_own_options_and_leaves_defaults() -> None:
    given = {"model": "demo", "dtype": "int8", "max_length": 9, "timeout": 3, "else": object()}
    assert pick(ModelSource, given) == ModelSource("demo")
    assert pick(Placement, given) == Placement(dtype="int8")
    assert pick(EngineSettings, given) == EngineSettings(timeout=3)
    assert pick(ScoringOptions, given) == ScoringOptions(max_length=9)
    with pytest.raises(OptionError, match="max_length=0"):
        pick(ScoringOptions, {"max_length": 0})


def test_changed_options_are_a_copy_that_is_checked() -> None:
    before = ScoringOptions(scale="sigmoid")
    assert changed(before, {"max_length": 64}) == ScoringOptions(scale="sigmoid", max_length=64)
    assert changed(before, {}) == before == ScoringOptions(scale="sigmoid")
    with pytest.raises(OptionError, match=r"unknown option 'maximal': use one of max_length, .*attention_softcap"):
        changed(before, {"maximal": 64})
    with pytest.raises(OptionError, match="unknown option 'dtype'"):
        changed(before, {"dtype": "int8"})  # of another group: the weights would have to be loaded again
    with pytest.raises(OptionError, match="scale='percent'"):
        changed(before, {"scale": "percent"})


def test_foreign_options_are_those_of_other_families_that_were_changed() -> None:
    options = ScoringOptions(max_length=9, scale="sigmoid", query_instruction="q", prompt="p", compress_ratio=2)
    assert foreign_options(options, frozenset()) == {"prompt": "p", "compress_ratio": 2}
    assert foreign_options(options, frozenset({"prompt"})) == {"compress_ratio": 2}
    assert foreign_options(ScoringOptions(compress_layers=8, compress_ratio=1), frozenset()) == {}


def test_each_option_that_configurations_read_from_a_string_is_of_one_type() -> None:
    assert TEXTS == ("query_instruction", "passage_instruction", "prompt")
    assert WHOLE_NUMBERS == ("max_length", "query_max_length", "cutoff_layer", "compress_ratio")
    assert NUMBER_LISTS == ("compress_layers",)
    assert SWITCHES == ("local_files_only", "attention_softcap")
    of_a_type = {*TEXTS, *WHOLE_NUMBERS, *NUMBER_LISTS, *SWITCHES}
    assert set(names(ScoringOptions)) - of_a_type == {"scale", "head_index"}  # words out of a few
