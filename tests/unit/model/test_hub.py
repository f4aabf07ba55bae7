"""From a name to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError


@pytest.mark.parametrize("model", ["", None, 3])
def test_no_model_at_all(model: Any) -> None:
    with pytest.raises(TypeError, match="model"):
        load_scorer(model)


@pytest.mark.parametrize("model", ["./nowhere", "/no/where", "nowhere", "a/b/c", Path("some/where")])
def test_a_folder_that_does_not_exist(model: str | Path) -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        load_scorer(model)
