"""A small data set whose rows differ much in length, with some that cannot be scored; and how to read scores back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bge_rerank_integrations.dataset import score
from tests.conftest import CHECKPOINTS

ENCODER = str(CHECKPOINTS / "encoder")
ROWS = 61
BLOCK_ROWS = 9
BROKEN = {3: '{"id": 3, "query": ', 20: '{"id": 20, "query": "q", "passage": null}', 60: '{"id": null}'}
"""Lines in place of rows: the fourth, the twenty-first and the last."""


def rows() -> list[dict[str, Any]]:
    draw = random.Random(7)
    words = ["Paris", "capital", "France", "river", "cheese", "of", "the"]
    lengths = [1, 3, 20, 300]
    texts = [" ".join(draw.choices(words, k=draw.choice(lengths))) for _ in range(ROWS)]
    return [{"id": number, "query": f"query {number % 5}", "passage": text} for number, text in enumerate(texts)]


def write_lines(path: Path) -> Path:
    lines = [BROKEN.get(number, json.dumps(row)) for number, row in enumerate(rows())]
    path.write_text("\n".join(lines))
    return path


def write_table(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows()), path, row_group_size=25)
    return path


def scores(folder: Path) -> list[tuple[Any, Any]]:
    """Every id with its score or scores, in the order of the output files."""
    found: list[tuple[Any, Any]] = []
    for path in sorted(folder.glob("part-*")):
        lines = (
            pq.read_table(path).to_pylist()
            if path.suffix == ".parquet"
            else [json.loads(line) for line in path.read_text().splitlines()]
        )
        found += [(row["id"], row["score"] if "score" in row else row["scores"]) for row in lines]
    return found


def set_aside(folder: Path) -> list[dict[str, Any]]:
    """Every row that could not be scored, in the order of the output files."""
    paths = sorted((folder / "_set_aside").glob("part-*"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def score_and_report(source: Path, destination: Path, tell: Any) -> None:
    """Score in a process of its own, which tells how many rows are done."""
    score(source, destination, model=ENCODER, block_rows=BLOCK_ROWS, watch=lambda what, done, total: tell((what, done)))
