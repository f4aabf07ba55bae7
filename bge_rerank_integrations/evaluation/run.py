"""The evaluation: score, measure, write the results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from bge_rerank_integrations import __version__
from bge_rerank_integrations.errors import DataError, OptionError
from bge_rerank_integrations.evaluation.configurations import FIRST_STAGE, Configuration, Given, read_configurations
from bge_rerank_integrations.evaluation.data import Dataset, Watch, unwatched
from bge_rerank_integrations.evaluation.fusing import run_of
from bge_rerank_integrations.evaluation.metrics import Values, estimate, measure
from bge_rerank_integrations.evaluation.result import Result
from bge_rerank_integrations.evaluation.rows import QUALITY, Row, Seconds, front
from bge_rerank_integrations.evaluation.scoring import TimedSample, find_models, score_and_time
from bge_rerank_integrations.evaluation.store import Store
from bge_rerank_integrations.evaluation.trec import Run, ranked, write_run
from bge_rerank_integrations.machine import hardware, versions


def evaluate(
    data: Dataset,
    configurations: Given | Iterable[Given],
    *,
    out: str | os.PathLike[str] | None = None,
    timing_queries: int = 20,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Result:
    """Rerank the candidates of every query with every configuration, and measure quality and time.

    Args:
        data: from `read_beir` or `read_jsonl`.
        configurations: one or several, see `read_configurations`.
        out: a folder for scores.jsonl, results.json, figure.png, figure.svg and runs/; a second call with the same
            folder, data and configurations uses what is there and does the rest. None: nothing is kept.
        timing_queries: on how many queries, drawn at random, each configuration is timed.
        seed: for that draw and for the bootstrap.
        watch: called with the name of a step, how much of it is done, and how much there is.

    Raises:
        OptionError: a configuration cannot be used.
        DataError: `out` has scores of other data or settings, or another process is writing there.
    """
    if seed < 0:
        raise OptionError(f"seed={seed}: use a whole number of 0 or more")
    wanted = read_configurations(configurations)
    sample = TimedSample(data, timing_queries, seed)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _evaluate(data, wanted, Path(folder), sample, seed, watch)
    kept = Path(out)
    if kept.is_file():
        raise DataError(f"{kept} is a file: name a folder for the results")
    kept.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock
    from filelock import Timeout as Held

    try:
        with FileLock(kept / ".lock", timeout=0):
            result = _evaluate(data, wanted, kept, sample, seed, watch)
            result.write(kept)
    except Held as error:
        raise DataError(f"{kept} is being written by another process: wait, or use another folder") from error
    return result


def _evaluate(
    data: Dataset, configurations: list[Configuration], folder: Path, sample: TimedSample, seed: int, watch: Watch
) -> Result:
    models = find_models(configurations, watch)
    with closing(Store(folder / "scores.jsonl", data.fingerprint())) as store:
        for model in models:
            score_and_time(model, data, store, sample, watch)
        runs = {FIRST_STAGE: _run(data, {query: list(found.values()) for query, found in data.candidates.items()})}
        weights: dict[str, tuple[float, ...]] = {}
        for configuration in configurations:
            name = configuration.name
            runs[name], weights[name] = run_of(configuration, data, store.scores(name), seed)
        times = {c.name: store.times(c.name, sample.how) or {} for c in configurations}
        tied = {c.name: _tied(store.scores(c.name).values()) for c in configurations}
    (folder / "runs").mkdir(exist_ok=True)
    values: dict[str, dict[str, Values]] = {}
    for done, (name, run) in enumerate(runs.items()):
        watch("measuring", done, 2 * len(runs))
        values[name] = measure(data.qrels, run, data.depth)
    best = max(values, key=lambda name: values[name][QUALITY].mean())
    rows: list[Row] = []
    for chosen, (name, run) in zip([None, *configurations], runs.items(), strict=True):
        watch("measuring", len(runs) + len(rows), 2 * len(runs))
        file = "first_stage.run" if chosen is None else chosen.run_file
        write_run(folder / "runs" / file, run, file.removesuffix(".run"))
        known = values[name]
        row = Row(
            name=f"first stage ({data.first_stage})" if chosen is None else name,
            metrics=estimate(known, seed),
            behind_best=estimate({QUALITY: values[best][QUALITY] - known[QUALITY]}, seed)[QUALITY],
            run_file=f"runs/{file}",
        )
        if chosen is not None:
            differences = {key: known[key] - values[FIRST_STAGE][key] for key in known}
            row = replace(
                row,
                settings=chosen.settings(),
                chosen_weights=weights[name],
                difference=estimate(differences, seed),
                seconds=_seconds(times[name]["seconds"]),
                extra_bytes=times[name]["extra_bytes"],
                tied_queries=tied[name],
            )
        rows.append(row)
    watch("measuring", 2 * len(runs), 2 * len(runs))
    return Result(
        data=data.name,
        queries=len(data.queries),
        depth=data.depth,
        first_stage=data.first_stage,
        notes=data.notes,
        timing=sample.how,
        versions={"bge-rerank-integrations": __version__, **versions(), **_metric_versions()},
        hardware=hardware(),
        rows=front(rows),
    )


def _run(data: Dataset, scores: Mapping[str, Any]) -> Run:
    return {query: ranked(list(found), scores[query]) for query, found in data.candidates.items()}


def _tied(scores: Iterable[Any]) -> int:
    """How many queries have several candidates and one score for all of them."""
    return sum(len(row) > 1 and min(row) == max(row) for row in scores)


def _seconds(taken: list[float]) -> Seconds:
    lower, _, upper = quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else taken * 3
    return Seconds(median=median(taken), lower_quartile=lower, upper_quartile=upper)


def _metric_versions() -> dict[str, str]:
    return {name: version(name) for name in ("ir-measures", "pytrec-eval-terrier", "scipy")} | {"numpy": np.__version__}
