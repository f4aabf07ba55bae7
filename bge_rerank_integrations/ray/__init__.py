"""Scores for data sets on Ray, and a server by Ray Serve. `score` has the same blocks as
`bge_rerank_integrations.dataset`, scored by actors:

    score("pairs.parquet", "scores", model="BAAI/bge-reranker-v2-m3", actors=16, gpus_per_actor=1, address="auto")

This process reads the input and writes the output; actors, anywhere in the cluster, hold models and score. So nothing
but the input and the output of this process must be on a disk that it sees, and whatever an actor that was killed had
begun leaves no trace.

`serve_app` is the application of `bge_rerank_integrations.serve`, for `ray.serve.run` or a serve.yaml.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bge_rerank_integrations.extras import require

require("ray")

from bge_rerank_integrations.dataset import Columns, Summary
from bge_rerank_integrations.dataset.job import BLOCK_ROWS, Job, OutputFormat, run_job, unwatched
from bge_rerank_integrations.dataset.runner import Model, Watch
from bge_rerank_integrations.ray.pool import Placing, actor_pool
from bge_rerank_integrations.ray.serving import build_app, serve_app

__all__ = ["Columns", "Summary", "build_app", "score", "serve_app"]


def score(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    model: str = "BAAI/bge-reranker-v2-m3",
    options: Mapping[str, Any] | None = None,
    devices: str | Sequence[str] | None = None,
    actors: int | None = None,
    gpus_per_actor: float = 0,
    address: str | None = None,
    columns: Columns | None = None,
    block_rows: int = BLOCK_ROWS,
    output_format: OutputFormat | None = None,
    watch: Watch = unwatched,
) -> Summary:
    """As `bge_rerank_integrations.dataset.score`, by Ray actors, each with a model of its own.

    A Ray that this process has started or joined already is used, and left running.

    Args:
        devices: names such as "cuda:0", for a Ray on this machine alone: actors take them in turn. None: each actor
            takes the first GPU that Ray gives it, else the CPU.
        actors: how many; None: one for each of `devices`, else one. With `address` it must be given.
        gpus_per_actor: GPUs that Ray reserves for each actor, such as 1 or 0.5; not together with `devices`.
        address: of a cluster, as in `ray.init`: "auto" or "HOST:6379". None: a Ray that is started
            here and ends with the job.
        block_rows: after a stop, at most two blocks an actor are scored again.

    Raises:
        DataError, OptionError, ScoreError: as `bge_rerank_integrations.dataset.score` does.
        WorkerError: Ray cannot be reached, it has no room for the actors, or an actor died again and again.
    """
    chosen = Model(model, options or {})
    placing = Placing(devices, actors, gpus_per_actor, address)
    job = Job(source, destination, chosen, columns or Columns(), block_rows, output_format)
    return run_job(job, partial(actor_pool, chosen, placing), watch)
