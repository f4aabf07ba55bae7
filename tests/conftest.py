"""Checkpoints that every test can use: the tiny ones of the goldens, loaded once, and copies to break."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from bge_rerank_integrations import Scorer, load_scorer, loading

PARITY = Path(__file__).parent / "parity"
CHECKPOINTS = PARITY / "checkpoints"
FAMILIES = ("encoder", "llm", "layerwise", "lightweight")


@cache
def golden() -> dict[str, Any]:
    """Pairs, and cases scored by the publisher's library: the `about` line of the file says how."""
    content: dict[str, Any] = json.loads((PARITY / "golden.json").read_text(encoding="utf-8"))
    return content


def pairs(name: str) -> list[tuple[str, str]]:
    """A pair list of the goldens: "france", "mixed" or "odd"."""
    return [(query, text) for query, text in golden()["pairs"][name]]


@pytest.fixture(scope="session")
def scorers() -> Iterator[Callable[[str], Scorer]]:
    """The tiny scorer of a family, loaded once; do not close it."""
    loaded: dict[str, Scorer] = {}

    def get(family: str) -> Scorer:
        if family not in loaded:
            loaded[family] = load_scorer(CHECKPOINTS / family)
        return loaded[family]

    yield get
    for scorer in loaded.values():
        scorer.close()


@pytest.fixture
def encoder(scorers: Callable[[str], Scorer]) -> Scorer:
    return scorers("encoder")


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scorers that the test loads have one worker: while that is held, all else waits."""
    monkeypatch.setattr(loading, "usable_cores", lambda: 1)


class Copy:
    """A checkpoint's folder that a test may change."""

    def __init__(self, family: str, folder: Path) -> None:
        shutil.copytree(CHECKPOINTS / family, folder)
        self.folder = folder

    def config(self, **changes: Any) -> Copy:
        """Change keys of config.json; None removes one."""
        path = self.folder / "config.json"
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return self

    def tensors(self, change: Callable[[dict[str, Tensor]], object]) -> Copy:
        """Change the dictionary of tensors."""
        path = self.folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
        return self


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Copy]:
    """A copy of a family's tiny checkpoint, in a folder of that name unless another is given."""
    return lambda family="encoder", name=None: Copy(family, tmp_path / (name or family))
