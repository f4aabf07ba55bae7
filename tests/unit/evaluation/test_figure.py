"""The figure's labels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from bge_rerank_integrations.evaluation.figure import spread, untangled


def test_labels_are_spread() -> None:
    heights = spread([0.9, 0.5, 0.5, 0.5, 0.01, 0.0], 0.1)
    assert heights == pytest.approx([0.9, 0.5, 0.4, 0.3, 0.1, 0.0])
    assert spread([0.5], 0.1) == [0.5]


def test_lines_to_labels_never_cross() -> None:
    random = np.random.default_rng(3)
    for count in (1, 2, 7, 15):
        points = [(float(x), float(y)) for x, y in random.random((count, 2)).round(1)]  # some of them equal
        heights = spread(sorted((y for _, y in points), reverse=True), 0.06)
        chosen = untangled(points, heights, 1.1)
        assert sorted(chosen) == list(range(count))
        lines = [(points[index], (1.1, height)) for index, height in zip(chosen, heights, strict=True)]
        for upper, lower in combinations(lines, 2):
            for x in (upper[0][0], lower[0][0]):
                if x >= max(upper[0][0], lower[0][0]):
                    assert at(upper, x) >= at(lower, x) - 1e-9


def at(line: tuple[tuple[float, float], tuple[float, float]], x: float) -> float:
    (x0, y0), (x1, y1) = line
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
