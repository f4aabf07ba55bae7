"""`bge-rerank evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bge_rerank_integrations.cli.options import EncodingOption
from bge_rerank_integrations.terminal import escape


def evaluate(
    data: Annotated[Path, typer.Argument(help="A folder in BEIR's layout, or a .jsonl file of positives, negatives.")],
    config: Annotated[
        list[str],
        typer.Option(
            help="MODEL[,OPTION=VALUE...], such as demo,max_length=128+256, or a TOML or JSON file; repeat it."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A folder to write to; the same one goes on where it was stopped.")],
    split: Annotated[str | None, typer.Option(help="BEIR: which of qrels/*.tsv; default: test.")] = None,
    candidates: Annotated[Path | None, typer.Option(help="BEIR: a TREC run file; default: BM25's best.")] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="BEIR: candidates of each query; default: 50 of BM25's, all of a run's.")
    ] = None,
    encoding: EncodingOption = "utf-8",
    timing_queries: Annotated[int, typer.Option(min=1, help="Queries to time each configuration on.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of timed queries and of the intervals.")] = 0,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out and count blank texts, duplicates and unknown ids."),
    ] = False,
) -> None:
    """Compare rerankers on your own data: quality with intervals, time, and which of them to take."""
    from bge_rerank_integrations import evaluation
    from bge_rerank_integrations.evaluation.progress import shown

    errors = Console(stderr=True)
    try:
        with shown(errors) as watch:
            if data.is_dir() or not data.suffix:
                dataset = evaluation.read_beir(
                    data,
                    split or "test",
                    candidates=candidates,
                    depth=depth,
                    skip_bad=skip_bad,
                    encoding=encoding,
                    watch=watch,
                )
            elif (split, candidates, depth) == (None, None, None):
                dataset = evaluation.read_jsonl(data, skip_bad=skip_bad, encoding=encoding, watch=watch)
            else:
                raise ValueError(f"--split, --candidates and --depth are for BEIR's layout: {data} has its candidates")
            result = evaluation.evaluate(
                dataset, config, out=out, timing_queries=timing_queries, seed=seed, watch=watch
            )
    except KeyboardInterrupt:
        errors.print("Stopped. The same command goes on from here.")
        raise
    console = Console()
    result.show(console)
    console.print(f"Written to {escape(str(out))}: results.json, figure.png, figure.svg, runs/", highlight=False)
