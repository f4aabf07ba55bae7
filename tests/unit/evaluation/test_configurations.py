"""Configurations: strings and files of them, sweeps, names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.evaluation import read_configurations


def test_configurations_expand_and_are_named() -> None:
    found = read_configurations(
        ["demo", "a/b,cutoff_layer=2-3+8,compress_ratio=2+4,compress_layers=8+16", "demo,devices=cpu,dtype=float32"]
    )
    assert [c.name for c in found[:3]] == [
        "demo",
        "b,cutoff_layer=2,compress_ratio=2,compress_layers=8+16",
        "b,cutoff_layer=2,compress_ratio=4,compress_layers=8+16",
    ]
    assert len(found) == 8
    assert found[1].options.compress_layers == (8, 16)
    assert found[-1].loading.placement.devices == ("cpu",)
    assert found[-1].settings() == {"model": "demo", "dtype": "float32", "devices": ["cpu"]}
    assert [c.options.query_instruction for c in read_configurations("demo,query_instruction=Frage: ")] == ["Frage: "]
    assert [c.options.max_length for c in read_configurations("demo, max_length = 64 + 65")] == [64, 65]
    swept = read_configurations({"model": Path("demo"), "max_length": (64, 65)})
    assert [c.name for c in swept] == ["demo,max_length=64", "demo,max_length=65"]


def test_long_names_are_told_apart_by_files_that_can_be_written(tmp_path: Path) -> None:
    names = ["问" * 200 + end for end in "ab"]
    files = [c.run_file for c in read_configurations([{"model": "demo", "name": name} for name in names])]
    assert files[0] != files[1]
    for file in files:
        (tmp_path / file).write_text("")


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_configurations_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    entries = [{"model": "demo", "name": "quick", "max_length": [64, 128]}, {"model": "demo", "prompt": "a, b"}]
    toml = '[[configuration]]\nmodel = "demo"\nname = "quick"\nmax_length = [64, 128]\n'
    toml += '[[configuration]]\nmodel = "demo"\nprompt = "a, b"\n'
    path.write_text("\ufeff" + (toml if suffix == ".toml" else json.dumps(entries)), encoding="utf-8")
    found = read_configurations([path])
    assert [c.name for c in found] == ["quick,max_length=64", "quick,max_length=128", "demo,prompt=a, b"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no configuration"),
        (["demo,length=5"], "'length' is not a setting of a configuration: use model, max_length,"),
        (["demo,max_length"], "not KEY=VALUE"),
        (["demo,max_length=5,max_length=6"], "max_length is given twice"),
        (["demo,cutoff_layer=8-2"], "goes down"),
        (["demo,max_length=abc"], "use a number, a range"),
        (["demo,scale=percent"], "'logit' or 'sigmoid'"),
        (["demo,attention_softcap=maybe"], "True or False"),
        (["demo", "demo"], "two configurations are called 'demo'"),
        (["a/demo", "b/demo"], "tell them apart with name="),
        (["demo,name=first stage"], "'first stage'"),
        ([",max_length=5"], "has no model"),
        ([{"model": "demo", "max_length": []}], "max_length=[] makes no configuration"),
        (["nowhere.toml"], "nowhere.toml does not exist"),
    ],
)
def test_bad_configurations(given: list[Any], said: str) -> None:
    with pytest.raises(OptionError) as refused:
        read_configurations(given)
    assert said in str(refused.value)
