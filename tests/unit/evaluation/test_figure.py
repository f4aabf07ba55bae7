"""The figure's labels."""

from __future__ import annotations

import pytest

from bge_rerank_integrations.evaluation.figure import spread


def test_labels_are_spread() -> None:
    places = spread([0.9, 0.5, 0.5, 0.5, 0.01, 0.0], 0.1)
    assert places == pytest.approx([0.9, 0.5, 0.4, 0.3, 0.1, 0.0])
    assert spread([0.5], 0.1) == [0.5]
