"""How fast one process reads rows and writes scores where scoring takes no time: what feeds devices can at most be.

    python -m tests.soak.data_rates --rows 200000

It is `bge-rerank score-dataset` without a model: each pair gets a zero. Printed for both formats, as rows in a CPU
second of one core, so that other programs of the machine count little: the first reading of a file, with its SHA-256,
and then all the rest: reading rows, handing them on, writing scores.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bge_rerank_integrations.dataset.job import Job, run_job
from bge_rerank_integrations.dataset.runner import Model, Outcome, Runner, Watch
from bge_rerank_integrations.dataset.source import find_files, survey_files
from bge_rerank_integrations.ranking import Pair
from tests.soak.overload import WORDS

BLOCK_ROWS = 5_000


class Zeros:
    """Scores everything at once."""

    capacity = 1

    def submit(self, rows: Sequence[list[Pair]]) -> Future[list[Outcome]]:
        done: Future[list[Outcome]] = Future()
        done.set_result([[0.0] * len(pairs) for pairs in rows])
        return done


@contextmanager
def zeros(watch: Watch) -> Iterator[Runner]:
    yield Zeros()


def write_rows(folder: Path, rows: int) -> int:
    """The same rows in both formats. Returns the bytes of text in a row."""
    draw = random.Random(0)
    made = [
        {"id": number, "query": " ".join(draw.choices(WORDS, k=8)), "passage": " ".join(draw.choices(WORDS, k=85))}
        for number in range(rows)
    ]
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in made)
    pq.write_table(pa.Table.from_pylist(made), folder / "rows.parquet", compression="zstd")
    return sum(len(str(row["query"])) + len(str(row["passage"])) for row in made) // rows


def measure(path: Path, rows: int) -> None:
    started = time.process_time()
    survey_files(find_files(path), BLOCK_ROWS, [], lambda *_: None)
    first = time.process_time() - started
    started = time.process_time()
    run_job(Job(path, path.with_suffix(f"{path.suffix}.scores"), Model("demo"), block_rows=BLOCK_ROWS), zeros)
    rest = time.process_time() - started - first  # it reads the file for the first time, too
    size = path.stat().st_size
    print(
        f"{path.suffix}: {size / rows:.0f} bytes a row; first reading {rows / first:,.0f} rows a second "
        f"({size / first / 1e6:,.0f} MB/s), the rest {rows / rest:,.0f} rows a second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Reading and writing without scoring.")
    parser.add_argument("--rows", type=int, default=200_000)
    rows: int = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{write_rows(folder, rows)} bytes of text a row")
        for suffix in (".jsonl", ".parquet"):
            measure(folder / f"rows{suffix}", rows)


if __name__ == "__main__":
    main()
