"""Deeper layers that cannot be loaded: their callers are told, the layers in use go on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import CheckpointError, OutOfMemory
from bge_rerank_integrations.model.families import base as base_module
from tests.attack.conftest import LAYERWISE, in_thread

PAIRS = [("q", "a"), ("q", "some words")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LAYERWISE, tmp_path / "model"))


@pytest.fixture
def load(folder: Path) -> Callable[[], Scorer]:
    """A scorer with its fewest layers."""
    return lambda: load_scorer(folder, cutoff_layer=layers()[0])


def layers() -> tuple[int, ...]:
    with load_scorer(LAYERWISE) as scorer:
        return scorer.cutoff_layers


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def replaced_in_place(folder: Path) -> None:
    """By a file of the same size, as a download would."""
    path = folder / "model.safetensors"
    other = folder / "other"
    shutil.copy(path, other)
    other.replace(path)


def overwritten(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


def of_another_model(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize("happens", [gone, truncated, replaced_in_place, overwritten, of_another_model])
def test_files_that_changed_are_not_mixed_in(
    happens: Callable[[Path], None], folder: Path, load: Callable[[], Scorer]
) -> None:
    few, *_, most = layers()
    with load() as scorer:
        expected = scorer.score_pairs(PAIRS)
        happens(folder)
        for _ in range(2):
            with pytest.raises(CheckpointError, match=str(folder)):
                in_thread(lambda: scorer.score_layers(PAIRS, [most]))()
            assert scorer.score_pairs(PAIRS) == expected
            assert scorer.score_layers(PAIRS, [few])[few] == expected
        assert not scorer.closed


def test_files_that_change_while_they_are_read(
    folder: Path, load: Callable[[], Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_weights = base_module.load_weights

    def meanwhile(*given: object) -> None:
        load_weights(*given)  # type: ignore[arg-type]
        replaced_in_place(folder)

    with load() as scorer:
        expected = scorer.score_pairs(PAIRS)
        monkeypatch.setattr(base_module, "load_weights", meanwhile)
        with pytest.raises(CheckpointError, match="were changed or moved"):
            scorer.score_layers(PAIRS, [layers()[-1]])
        assert scorer.score_pairs(PAIRS) == expected


def test_files_that_come_back(folder: Path, load: Callable[[], Scorer]) -> None:
    most = layers()[-1]
    with load() as scorer, load_scorer(LAYERWISE) as whole:
        folder.rename(folder.with_name("away"))
        with pytest.raises(CheckpointError):
            scorer.score_layers(PAIRS, [most])
        folder.with_name("away").rename(folder)
        found = scorer.score_layers(PAIRS, [most])[most]
        assert found == pytest.approx(whole.score_pairs(PAIRS), abs=1e-5)


def test_the_folder_is_found_after_the_process_has_moved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, *_, most = layers()
    monkeypatch.chdir(tmp_path)
    with load_scorer("./model", cutoff_layer=few) as scorer, load_scorer(LAYERWISE) as whole:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        found = scorer.score_layers(PAIRS, [most])[most]
        assert found == pytest.approx(whole.score_pairs(PAIRS), abs=1e-5)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_layers_that_do_not_fit_leave_batches_as_they_are(
    error: Exception, load: Callable[[], Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, *_, most = layers()

    def fail(*_: object) -> None:
        raise error

    with load() as scorer:
        budget = scorer.stats().token_budget
        expected = scorer.score_pairs(PAIRS)
        tries: list[object] = []
        monkeypatch.setattr(base_module, "load_weights", lambda *_: (tries.append(1), fail()))
        with pytest.raises(OutOfMemory, match=f"{most} layers of .* do not fit") as told:
            scorer.score_layers(PAIRS * 20, [most])
        assert told.value.__cause__ is told.value.__context__ is None  # or the half-loaded model would live with it
        assert len(tries) == 1  # one batch, whoever has how much of it
        assert (scorer.stats().token_budget, scorer.stats().out_of_memory) == (budget, 0)
        assert scorer.score_pairs(PAIRS) == expected
        monkeypatch.undo()
        assert len(scorer.score_layers(PAIRS, [few, most])[most]) == 2
