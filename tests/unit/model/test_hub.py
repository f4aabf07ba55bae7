"""From a name to a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.hub import EMBEDDED, find_checkpoint
from bge_rerank_integrations.options import ModelSource
from tests.conftest import CHECKPOINTS


@pytest.mark.parametrize("model", ["", None, 3])
def test_no_model_at_all(model: Any) -> None:
    with pytest.raises(TypeError, match="model"):
        load_scorer(model)


@pytest.mark.parametrize("model", ["./nowhere", "/no/where", "nowhere", "a/b/c", Path("some/where")])
def test_a_folder_that_does_not_exist(model: str | Path) -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        load_scorer(model)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_models_that_come_with_the_package_are_found_by_name(name: str) -> None:
    checkpoint = find_checkpoint(ModelSource(name))
    assert checkpoint.folder.name == name
    assert checkpoint.config["model_type"] == checkpoint.model_type


def test_a_folder_is_taken_before_the_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder here of the form owner/name is that folder."""
    shutil.copytree(CHECKPOINTS / "encoder", tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    for model in ("owner/name", Path("owner") / "name", str(tmp_path / "owner" / "name")):
        found = find_checkpoint(ModelSource(model, local_files_only=True))
        assert found.folder.resolve() == tmp_path / "owner" / "name"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CHECKPOINTS / "encoder", tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_checkpoint(ModelSource("~/mine")).folder == tmp_path / "mine"
    with pytest.raises(CheckpointError, match="~/other is not a folder here"):
        find_checkpoint(ModelSource("~/other"))


def test_a_file_is_no_folder() -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is a file: give a folder with"):
        find_checkpoint(ModelSource(CHECKPOINTS / "encoder" / "config.json"))
