"""Folders that are not quite a model's: the message says what one is and which to give instead."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, UnknownFamilyError, WeightsError
from tests.conftest import CHECKPOINTS, Copy
from tests.integration.test_bad_checkpoints import fails

CopyOf = Callable[..., Copy]
ENCODER = CHECKPOINTS / "encoder"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_cache(root: Path, *, complete: bool = True) -> Path:
    """A model in the hub's cache, of files that are links to blobs."""
    folder = root / "models--owner--name"
    snapshot = folder / "snapshots" / COMMIT
    (folder / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(ENCODER.iterdir())):
        if complete or path.name != "model.safetensors":
            shutil.copy(path, folder / "blobs" / str(number))
        (snapshot / path.name).symlink_to(folder / "blobs" / str(number))
    return folder


def test_a_cache_folder_names_its_snapshot(tmp_path: Path) -> None:
    folder = hub_cache(tmp_path)
    snapshot = folder / "snapshots" / COMMIT
    fails(folder, CheckpointError, str(snapshot), "'owner/name'")
    fails(folder / "snapshots", CheckpointError, str(snapshot))
    fails(tmp_path, CheckpointError, f"cache_dir={str(tmp_path)!r}", "owner/name")
    load_scorer(snapshot).close()


def test_of_several_snapshots_that_of_the_main_branch_is_named(tmp_path: Path) -> None:
    folder = hub_cache(tmp_path)
    newer = folder / "snapshots" / ("f" * 40)
    shutil.copytree(ENCODER, newer)
    os.utime(newer, (2e9, 2e9))
    fails(folder, CheckpointError, str(newer))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    fails(folder, CheckpointError, str(folder / "snapshots" / COMMIT))


def test_a_relative_path_is_recognised_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hub_cache(tmp_path))
    fails(Path("."), CheckpointError, str(tmp_path / "models--owner--name" / "snapshots" / COMMIT))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("model-00001-of-00001.safetensors", "model.safetensors.index.json, which says what is in which, is missing"),
        ("pytorch_model.safetensors", "rename it to model.safetensors"),
    ],
)
def test_weights_of_another_name(copy: CopyOf, name: str, remedy: str) -> None:
    folder = copy().folder
    (folder / "model.safetensors").rename(folder / name)
    fails(folder, CheckpointError, name, remedy)


def test_a_cache_folder_that_is_not_complete(tmp_path: Path) -> None:
    folder = hub_cache(tmp_path, complete=False)
    snapshot = folder / "snapshots" / COMMIT
    fails(snapshot, CheckpointError, "model.safetensors", "missing", "download")
    (snapshot / "model.safetensors").unlink()
    fails(snapshot, CheckpointError, "owner/name", "not complete")
    for path in snapshot.iterdir():
        path.unlink()
    fails(snapshot, CheckpointError, "owner/name", "not complete")
    snapshot.rmdir()
    fails(folder, CheckpointError, "owner/name", "not complete")


def test_a_link_without_its_file_is_named(copy: CopyOf) -> None:
    folder = copy().folder
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "gone")
    fails(folder, CheckpointError, "config.json", "links to files that are missing")


@pytest.mark.parametrize("with_config", [True, False])
def test_a_training_runs_output_names_its_last_checkpoint(tmp_path: Path, with_config: bool) -> None:
    for steps in (500, 1000, 90):
        shutil.copytree(ENCODER, tmp_path / f"checkpoint-{steps}")
    (tmp_path / "checkpoint-2000").mkdir()  # a run that was stopped while it saved
    if with_config:
        shutil.copy(ENCODER / "config.json", tmp_path)
    fails(tmp_path, CheckpointError, str(tmp_path / "checkpoint-1000"), "training run")


def test_a_training_runs_output_names_what_was_merged(tmp_path: Path) -> None:
    shutil.copytree(ENCODER, tmp_path / "merged_model")
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7" / "adapter_config.json").write_text("{}")
    fails(tmp_path, CheckpointError, str(tmp_path / "merged_model"))


def test_a_folder_above_the_models(tmp_path: Path) -> None:
    shutil.copytree(ENCODER, tmp_path / "mine")
    fails(tmp_path, CheckpointError, str(tmp_path / "mine"))


def test_an_empty_folder(tmp_path: Path) -> None:
    fails(tmp_path, CheckpointError, "no config.json", "folder of a model?")


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize(
    ("file", "format"),
    [
        ("model-q4.gguf", "GGUF"),
        ("model.onnx", "ONNX"),
        ("onnx/model_quantized.onnx", "ONNX"),
        ("openvino_model.xml", "OpenVINO"),
        ("openvino/openvino_model.xml", "OpenVINO"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
    ],
)
def test_other_programs_formats_are_named(copy: CopyOf, file: str, format: str, with_config: bool) -> None:
    folder = copy().folder
    (folder / "model.safetensors").unlink()
    if not with_config:
        (folder / "config.json").unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"anything")
    if format == "OpenVINO":
        (folder / file).with_suffix(".bin").write_bytes(b"anything")
    fails(folder, CheckpointError, file, format, "safetensors")


def test_only_what_a_trainer_left_is_no_pickled_model(copy: CopyOf) -> None:
    folder = copy().folder
    (folder / "model.safetensors").unlink()
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth"):
        (folder / name).write_bytes(b"anything")
    fails(folder, CheckpointError, "no weights")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("content", [POINTER, "<!DOCTYPE html><html>Please sign in</html>"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_pointer_or_a_page_instead_of_the_file(copy: CopyOf, file: str, content: str) -> None:
    folder = copy().folder
    (folder / file).write_text(content)
    fails(folder, CheckpointError, file, "git lfs pull" if content is POINTER else "web page")


def test_a_pointer_instead_of_a_shard(copy: CopyOf) -> None:
    folder = copy().folder
    (folder / "model.safetensors").unlink()
    (folder / "model-1-of-1.safetensors").write_text(POINTER)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1-of-1.safetensors"}}')
    fails(folder, CheckpointError, "model-1-of-1.safetensors", "git lfs pull")


def modular(folder: Path, *modules: str) -> None:
    listed = [{"idx": i, "path": path, "type": f"x.{path.split('_')[1]}"} for i, path in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    for path in modules:
        (folder / path).mkdir()
        (folder / path / "config.json").write_text("{}")


def test_a_modular_model_of_sentence_transformers(tmp_path: Path) -> None:
    modular(tmp_path, "0_Transformer", "1_Dense")
    fails(tmp_path, CheckpointError, "modular sentence-transformers", "CrossEncoder.save_pretrained")


def test_a_modular_model_of_one_module(tmp_path: Path) -> None:
    modular(tmp_path, "0_Transformer")
    fails(tmp_path, CheckpointError, "modular sentence-transformers", str(tmp_path / "0_Transformer"))


@pytest.mark.parametrize("content", ["{", "[]", "[3]", '[{"path": 3}]'])
def test_a_broken_modular_model(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    fails(tmp_path, CheckpointError, "modul")


@pytest.mark.parametrize("model_type", ["rwkv7", "minicpmv", "no-such-model"])
def test_no_advice_that_cannot_help(copy: CopyOf, model_type: str) -> None:
    """Naming a family helps only where that family runs the model type."""
    folder = copy().config(model_type=model_type, architectures=["X"]).folder
    fails(folder, UnknownFamilyError, "no family runs this model type", "encoder: xlm-roberta, roberta")
    with pytest.raises(UnknownFamilyError, match=rf"'{model_type}' \(X\) is not one that the encoder family runs"):
        load_scorer(folder, family="encoder")


@pytest.mark.parametrize(("model_type", "family"), [("gemma2", "lightweight"), ("minicpm", "layerwise")])
def test_advice_that_can_help_names_the_family(copy: CopyOf, model_type: str, family: str) -> None:
    changed = copy("lightweight").config(model_type=model_type, start_layer=None)
    fails(changed.folder, UnknownFamilyError, f"family={family!r}")


def test_a_head_of_several_labels_is_not_blamed_on_config(copy: CopyOf) -> None:
    with pytest.raises(WeightsError) as caught:
        load_scorer(copy().config(id2label={"0": "a", "1": "b"}).folder)
    assert "config.json makes it" not in str(caught.value)
