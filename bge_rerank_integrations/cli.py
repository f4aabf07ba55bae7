"""The command line: `bge-rerank demo`, `rank`, `models`, `bench`, `evaluate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from bge_rerank_integrations import __version__
from bge_rerank_integrations.errors import RerankError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="BGE rerankers for LangChain and LlamaIndex.",
)

ModelOption = Annotated[
    str, typer.Option(help="Hub id, local folder, or a demonstration model: demo, demo-layerwise, demo-lightweight.")
]
DeviceOption = Annotated[str | None, typer.Option(help="Such as cpu or cuda:0; default: the first GPU, else the CPU.")]


class Split(str, Enum):
    """What makes one text of a plain file."""

    line = "line"
    paragraph = "paragraph"
    file = "file"


def main() -> None:
    """Run the command line; what goes wrong is one line on standard error and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where it is not UTF-8, nothing is lost
    try:
        app()
    except (RerankError, ValueError, TypeError, OSError) as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = (
        False
    ),
) -> None:
    pass


@app.command()
def demo(
    query: Annotated[list[str] | None, typer.Option(help="Your own question about Python; may be repeated.")] = None,
    model: ModelOption = "demo",
    top_n: Annotated[int, typer.Option(min=1, help="Passages to show for each question.")] = 5,
    device: DeviceOption = None,
) -> None:
    """Rerank real passages, retrieved from the Python language reference, through LangChain and LlamaIndex."""
    from bge_rerank_integrations.demo import show
    from bge_rerank_integrations.loading import load_scorer

    with load_scorer(model, devices=device) as scorer:
        show.run(scorer, model, query or show.QUESTIONS, top_n, Console())


@app.command()
def rank(
    query: Annotated[str, typer.Argument(help="What is asked.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Texts: plain files, or JSON lines (.jsonl). Default: standard input.")
    ] = None,
    model: ModelOption = "BAAI/bge-reranker-v2-m3",
    top_n: Annotated[int, typer.Option(min=0, help="Results to show; 0: all.")] = 10,
    threshold: Annotated[float | None, typer.Option(help="Show only scores of at least this.")] = None,
    scale: Annotated[str, typer.Option(help="logit or sigmoid.")] = "logit",
    device: DeviceOption = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, float16, bfloat16 or int8.")] = "auto",
    max_length: Annotated[int, typer.Option(help="Tokens kept of query and text.")] = 512,
    cutoff_layer: Annotated[int | None, typer.Option(help="Layerwise and lightweight models: layers to run.")] = None,
    compress_ratio: Annotated[int, typer.Option(help="Lightweight models: 1, 2, 4 or 8 passage tokens in one.")] = 1,
    split: Annotated[Split, typer.Option(help="What is one text of a plain file.")] = Split.line,
    field: Annotated[str, typer.Option(help="JSON lines: the key of an object that holds its text.")] = "text",
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Read standard input as JSON lines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
) -> None:
    """Order texts by how well they answer QUERY."""
    from bge_rerank_integrations.loading import load_scorer
    from bge_rerank_integrations.ranking import rank as order

    rows = list(_read_all(files or [], split, field, jsonl))
    with load_scorer(
        model,
        devices=device,
        dtype=dtype,
        max_length=max_length,
        scale=scale,  # type: ignore[arg-type]  # checked by load_scorer, with the message for it
        cutoff_layer=cutoff_layer,
        compress_ratio=compress_ratio,
    ) as scorer:
        errors = Console(stderr=True)
        with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
            task = progress.add_task("scoring", total=len(rows))
            scores = scorer.score(
                query, [row[field] for row in rows], lambda done, _: progress.update(task, completed=done)
            )
    ranked = order(scores, top_n or None, threshold)
    if as_json:
        escapes = not sys.stdout.encoding.lower().startswith("utf")
        for index, score in ranked:
            print(json.dumps({"index": index, "relevance_score": score, **rows[index]}, ensure_ascii=escapes))
        return
    table = Table(title=escape(query), title_justify="left")
    for heading in ("score", "text", "from"):
        table.add_column(heading, justify="right" if heading == "score" else "left")
    for index, score in ranked:
        text = " ".join(rows[index][field].split())
        table.add_row(f"{score:.3f}", escape(text[:200]), escape(str(rows[index].get("source", ""))))
    Console().print(table)


@app.command()
def models(
    language: Annotated[str, typer.Option(help="english, chinese or multilingual.")] = "multilingual",
    priority: Annotated[str, typer.Option(help="balanced, efficiency or performance.")] = "balanced",
) -> None:
    """List the six published models, and which of them the publisher recommends."""
    from bge_rerank_integrations.catalog import MODELS, recommend

    chosen = [model.name for model in recommend(language, priority)]  # type: ignore[arg-type]  # checked there
    table = Table(title="Published BGE rerankers", title_justify="left", show_lines=True)
    table.add_column("model", no_wrap=True)
    table.add_column("size\ntokens", justify="right")
    table.add_column("languages: good for")
    for model in MODELS:
        name = f"[bold green]{model.name}[/]" if model.name in chosen else model.name
        table.add_row(
            f"{name}\n[dim]{model.family} · {model.base_model} · {model.licence}[/]",
            f"{model.parameters}\n{model.context:,}",
            f"[dim]{model.languages}:[/] {model.good_for}",
        )
    console = Console()
    console.print(table)
    console.print(f"For {language} texts, {priority}: try {', then '.join(chosen)}. Then test on your own data.")


@app.command()
def bench(
    model: Annotated[
        str, typer.Option(help="Hub id, folder, demo, or random:NAME[:PART of its layers] for a published shape.")
    ] = "random:bge-reranker-base",
    against: Annotated[
        str, typer.Option(help="Peers, with commas: NAME[:PAIRS a batch][=PYTHON of another environment].")
    ] = "transformers",
    workloads: Annotated[str, typer.Option(help="With commas: mixed, many, long, single.")] = "mixed,many,long,single",
    rounds: Annotated[int, typer.Option(help="How often each is timed; medians are shown.")] = 3,
    scale: Annotated[float, typer.Option(help="Part of each workload to take, up to 1.")] = 1.0,
    device: DeviceOption = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything measured to this file.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Write a figure to this file.")] = None,
) -> None:
    """Time this package against others on the same pairs, in turn, after checking that the scores agree."""
    from bge_rerank_integrations.bench import report
    from bge_rerank_integrations.bench.run import benchmark

    errors = Console(stderr=True)
    with errors.status("") as status:
        measured = benchmark(
            model,
            [peer for peer in against.split(",") if peer],
            workloads.split(","),
            rounds=rounds,
            scale=scale,
            device=device,
            dtype=dtype,
            say=status.update,
        )
    report.show(measured, Console())
    if json_file:
        json_file.write_text(measured.to_json())
    if plot_file:
        report.plot(measured, plot_file)


@app.command()
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
                    data, split or "test", candidates=candidates, depth=depth, skip_bad=skip_bad, watch=watch
                )
            elif (split, candidates, depth) == (None, None, None):
                dataset = evaluation.read_jsonl(data, skip_bad=skip_bad, watch=watch)
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


def _read_all(files: list[Path], split: Split, field: str, jsonl: bool) -> Iterator[dict[str, Any]]:
    """Each text as a JSON object that holds it under `field`, with whatever else its line had."""
    if not files:
        yield from _read(sys.stdin.read(), "standard input", split, field, jsonl)
    for path in files:
        content = path.read_text(encoding="utf-8")
        for row in _read(content, str(path), split, field, jsonl or path.suffix in (".jsonl", ".ndjson")):
            yield {**row, "source": str(path)} if len(files) > 1 else row


def _read(content: str, name: str, split: Split, field: str, jsonl: bool) -> Iterator[dict[str, Any]]:
    if not jsonl:
        parts = {"line": content.splitlines(), "paragraph": content.split("\n\n"), "file": [content]}[split.value]
        yield from ({field: part.strip()} for part in parts if part.strip())
        return
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}, line {number} is not JSON: {error}") from error
        row = {field: row} if isinstance(row, str) else row
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            raise ValueError(
                f"{name}, line {number} has no text: give a JSON string, or an object with a string under "
                f"{field!r} (--field names another key)"
            )
        yield row
