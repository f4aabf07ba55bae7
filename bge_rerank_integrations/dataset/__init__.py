"""Scores for data sets of any size: every row once, whenever the work is stopped and taken up again.

    score("pairs.parquet", "scores", model="BAAI/bge-reranker-v2-m3", devices=["cuda:0", "cuda:1"])

files (`source`, with `json_lines` and `parquet`) -> rows (`rows`) -> blocks (`plan`) -> a runner (`runner`) -> one file
a block (`output`). `job.run_job` is the whole way. `bge_rerank_integrations.ray` has a runner of Ray actors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bge_rerank_integrations.extras import require

require("dataset")

from bge_rerank_integrations.dataset.job import BLOCK_ROWS, Job, OutputFormat, Summary, run_job, unwatched
from bge_rerank_integrations.dataset.rows import Columns
from bge_rerank_integrations.dataset.runner import Model, Watch, in_process

__all__ = ["Columns", "Summary", "score"]


def score(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    model: str = "BAAI/bge-reranker-v2-m3",
    options: Mapping[str, Any] | None = None,
    devices: str | Sequence[str] | None = None,
    columns: Columns | None = None,
    block_rows: int = BLOCK_ROWS,
    output_format: OutputFormat | None = None,
    watch: Watch = unwatched,
) -> Summary:
    """Score a data set in this process. The same call goes on where an earlier one was stopped.

    Args:
        source: a .parquet or .jsonl file, or a folder of them. A row has an id (a string or a whole number), a query,
            and a passage or a list of passages.
        destination: a folder for the scores; one that does not exist, is empty, or is of the same job.
        model: as in `load_scorer`.
        options: other arguments of `load_scorer`, such as {"max_length": 256, "scale": "sigmoid"}.
        devices: as in `load_scorer`: one replica on each.
        columns: what the columns are called.
        block_rows: rows that are scored and written together; at most two blocks are scored again after a stop.
        output_format: "parquet" or "jsonl"; None: that of the input.
        watch: called with what is being done, how much of it is done, and how much there is.

    Raises:
        DataError: the input cannot be used (names file and line), the destination has scores of other rows or options
            (names the difference), or another process is writing there.
        OptionError: an option is unknown or its value impossible.
        ScoreError: no row of a whole block could be scored.
    """
    chosen = Model(model, options or {})
    job = Job(source, destination, chosen, columns or Columns(), block_rows, output_format)
    return run_job(job, partial(in_process, chosen, devices), watch)
