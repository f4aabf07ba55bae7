"""The whole way: survey, plan, score what is not done yet, write each block once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bge_rerank_integrations.dataset.formats import Format, Scored
from bge_rerank_integrations.dataset.json_lines import JsonLines
from bge_rerank_integrations.dataset.output import open_output
from bge_rerank_integrations.dataset.parquet import Parquet
from bge_rerank_integrations.dataset.plan import Block, plan_blocks
from bge_rerank_integrations.dataset.rows import Columns, Row
from bge_rerank_integrations.dataset.runner import Model, Outcome, Runner, Start, Watch
from bge_rerank_integrations.dataset.source import Source, find_common_shape, find_files, survey_files
from bge_rerank_integrations.errors import OptionError, ScoreError

OutputFormat = Literal["parquet", "jsonl"]
OUTPUTS: dict[str, Format] = {form.suffix: form for form in (Parquet(), JsonLines())}
BLOCK_ROWS = 5000


def unwatched(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Job:
    """What is to be scored, how, and where to.

    Raises:
        OptionError: a value is impossible.
    """

    source: str | os.PathLike[str]
    destination: str | os.PathLike[str]
    model: Model
    columns: Columns = field(default_factory=Columns)
    block_rows: int = BLOCK_ROWS
    output_format: OutputFormat | None = None
    """None: that of the first input file."""

    def __post_init__(self) -> None:
        if self.block_rows < 1:
            raise OptionError(f"block_rows={self.block_rows}: use a whole number of 1 or more")
        if self.output_format not in (None, *OUTPUTS):
            raise OptionError(f"output_format={self.output_format!r}: use one of {', '.join(OUTPUTS)}")


@dataclass(frozen=True)
class Summary:
    """What is in the output folder, and what this run did."""

    folder: Path
    rows: int
    """Of the input."""
    set_aside: int
    """Rows among them that could not be scored; files in the folder's `_set_aside` say why."""
    rows_now: int
    """Rows that this run took; the others were done before."""
    pairs_now: int
    seconds: float
    """That this run took after the model was loaded."""


def run_job(job: Job, start: Start, watch: Watch = unwatched) -> Summary:
    """Score every row that the output folder has not yet.

    Raises:
        DataError: the input cannot be used, the output folder is of another job, or another process has it.
        ScoreError: no row of a whole block could be scored.
    """
    files = find_files(job.source)
    with open_output(job.destination) as output:
        shape = find_common_shape(files, job.columns)
        source = Source(files, survey_files(files, job.block_rows, output.known_files(), watch), shape)
        form = files[0].format if job.output_format is None else OUTPUTS[job.output_format]
        settings = {
            "block_rows": job.block_rows,
            "output_format": form.suffix,
            "id_column": shape.id,
            "query_column": shape.query,
            "passage_column": shape.passage,
            **job.model.describe(),
        }
        output.settle(source.describe(), settings)
        blocks = plan_blocks([survey.rows for survey in source.surveys], job.block_rows)
        finished = output.finished()
        left = [block for block in blocks if block.number not in finished]
        total = sum(block.rows for block in blocks)
        done = before = total - sum(block.rows for block in left)
        pairs = 0
        began = time.monotonic()
        if left:
            with start(watch) as runner:
                began = time.monotonic()
                watch("scoring rows", done, total)
                for block, rows, outcomes in _scored(source.rows(left), runner):
                    scored, set_aside = _parted(rows, outcomes, files[block.file].path)
                    _check_any(block, job.block_rows, outcomes)
                    output.commit(block.number, form, scored, set_aside, shape)
                    done += block.rows
                    pairs += sum(len(scores) for _, scores in scored)
                    watch("scoring rows", done, total)
        return Summary(output.folder, total, output.count_set_aside(), done - before, pairs, time.monotonic() - began)


def _scored(
    blocks: Iterable[tuple[Block, list[Row]]], runner: Runner
) -> Iterator[tuple[Block, list[Row], list[Outcome]]]:
    """Every block, as soon as it is scored; as many under way as the runner can use, and no more read than that."""
    under_way: dict[Future[list[Outcome]], tuple[Block, list[Row]]] = {}

    def collect() -> Iterator[tuple[Block, list[Row], list[Outcome]]]:
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            block, rows = under_way.pop(future)
            yield block, rows, future.result()

    for block, rows in blocks:
        while len(under_way) >= runner.capacity:
            yield from collect()
        future = runner.submit([row.pairs for row in rows if not row.problem])
        under_way[future] = (block, rows)
    while under_way:
        yield from collect()


def _parted(rows: Sequence[Row], outcomes: Sequence[Outcome], path: Path) -> tuple[list[Scored], list[dict[str, Any]]]:
    """A block's scores, and its rows that have none."""
    scored: list[Scored] = []
    set_aside: list[dict[str, Any]] = []
    remaining = iter(outcomes)
    for row in rows:
        outcome = row.problem or next(remaining)
        if isinstance(outcome, str):
            set_aside.append({"file": path.name, "row": row.place, "id": row.id, "reason": outcome})
        else:
            scored.append((row.id, outcome))
    return scored, set_aside


def _check_any(block: Block, block_rows: int, outcomes: Sequence[Outcome]) -> None:
    """A single row that the model cannot score is the row's fault, a whole block of them the model's."""
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if 1 < block.rows == block_rows and reasons and len(reasons) == len(outcomes):
        raise ScoreError(f"no row of block {block.number} could be scored: {reasons[0]}")
