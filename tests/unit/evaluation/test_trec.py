"""Run files, which trec_eval reads with 32-bit floats and orders in its own way."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from bge_rerank_integrations.evaluation.trec import ranked, write_run


def test_runs_have_one_order_for_trec_eval(tmp_path: Path) -> None:
    """Equal scores, and scores that 32-bit floats cannot tell apart, keep the order given."""
    documents = [f"d{i}" for i in range(6)]
    scores = [0.5, 0.5, 0.1 + 1e-12, 0.1, 0.9, 0.5]
    run = ranked(documents, scores)
    assert list(run) == ["d4", "d0", "d1", "d5", "d2", "d3"]
    as_read = [float(np.float32(score)) for score in run.values()]
    assert as_read == list(run.values())
    assert all(a > b for a, b in pairwise(as_read))
    assert max(abs(run[d] - s) for d, s in zip(documents, scores, strict=True)) < 1e-6
    write_run(tmp_path / "x.run", {"q": run}, "x")
    read = {row.split()[2]: float(np.float32(row.split()[4])) for row in (tmp_path / "x.run").read_text().splitlines()}
    assert read == run
