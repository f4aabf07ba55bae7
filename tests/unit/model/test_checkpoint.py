"""A folder's files, read when they are asked for, each of them checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.checkpoint import Checkpoint, CheckpointConfig
from tests.conftest import CHECKPOINTS


def folder_with(path: Path, **config: Any) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_opening_reads_no_tokenizer_and_no_weights(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, model_type="some"))
    assert checkpoint.folder == tmp_path
    assert checkpoint.model_type == "some"
    with pytest.raises(CheckpointError, match="tokenizer"):
        _ = checkpoint.tokenizer
    with pytest.raises(CheckpointError, match="no weights"):
        _ = checkpoint.tensors


@pytest.mark.parametrize(
    ("config", "model_type", "architecture"),
    [
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "bert", "BertForSequence.*"),
        ({"model_type": "bert", "architectures": []}, "bert", "bert"),
        ({"model_type": "bert", "architectures": None}, "bert", "bert"),
        ({"model_type": "bert"}, "bert", "bert"),
        ({}, "", r"\(none named\)"),
    ],
)
def test_what_a_config_says_it_is(tmp_path: Path, config: dict[str, Any], model_type: str, architecture: str) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, **config))
    assert checkpoint.model_type == model_type

    class Needs(CheckpointConfig):
        something: int

    with pytest.raises(CheckpointError, match=rf"config\.json does not fit {architecture}: something: "):
        checkpoint.read_config(Needs)


class Sizes(CheckpointConfig):
    wide: int
    deep: int = 3


def test_a_family_reads_the_keys_it_knows(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, wide=64, auto_map={"AutoModel": "evil.Model"}))
    assert checkpoint.read_config(Sizes) == Sizes(wide=64, deep=3)


def test_every_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, deep=[2]))
    with pytest.raises(CheckpointError, match=r"wide: Field required; deep: "):
        checkpoint.read_config(Sizes)


def test_the_tokenizer_cuts_and_pads_nothing(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    path = shutil.copy(CHECKPOINTS / "encoder" / "tokenizer.json", folder)
    content = json.loads(Path(path).read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    Path(path).write_text(json.dumps(content))
    checkpoint = Checkpoint(folder)
    assert 20 < len(checkpoint.tokenizer.encode("some word " * 20).ids) < 99
    assert checkpoint.tokenizer is checkpoint.tokenizer  # read once


def two_shards(folder: Path) -> None:
    tensors = {f"layer.{i}": torch.full((4, 2), float(i)) + torch.arange(4)[:, None] * 10 for i in range(4)}
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    save_file({name: tensors[name] for name in ("layer.0", "layer.3")}, folder / files[0])
    save_file({name: tensors[name] for name in ("layer.1", "layer.2")}, folder / files[1])
    weight_map = {"layer.0": files[0], "layer.3": files[0], "layer.1": files[1], "layer.2": files[1]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_the_rows_asked_for_come_from_whichever_file_has_them(tmp_path: Path) -> None:
    two_shards(folder_with(tmp_path))
    checkpoint = Checkpoint(tmp_path)
    assert set(checkpoint.tensors) == {f"layer.{i}" for i in range(4)}
    wanted = {"layer.2": slice(1, 2), "layer.3": slice(None)}
    found = {name: tensor.tolist() for name, tensor in checkpoint.read_tensors(wanted)}
    assert found == {"layer.2": [[12.0, 12.0]], "layer.3": [[3.0, 3.0], [13.0, 13.0], [23.0, 23.0], [33.0, 33.0]]}
    assert list(checkpoint.read_tensors({})) == []


def test_a_file_that_breaks_while_it_is_open_is_named(tmp_path: Path) -> None:
    two_shards(folder_with(tmp_path))
    checkpoint = Checkpoint(tmp_path)
    assert len(checkpoint.tensors) == 4
    broken = tmp_path / "model-00002-of-00002.safetensors"
    broken.write_bytes(broken.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is broken or cut short"):
        list(checkpoint.read_tensors({"layer.1": slice(None)}))
