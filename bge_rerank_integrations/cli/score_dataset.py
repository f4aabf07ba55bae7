"""`bge-rerank score-dataset`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from bge_rerank_integrations.cli.options import ModelOption
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import NUMBER_LISTS, SWITCHES, WHOLE_NUMBERS

if TYPE_CHECKING:
    from bge_rerank_integrations.dataset import Summary
    from bge_rerank_integrations.dataset.runner import Watch

SWITCHED = {"true": True, "false": False}
SECONDS_BETWEEN_LINES = 60
"""Of progress, where the output is no terminal."""


def score_dataset(
    source: Annotated[Path, typer.Argument(help="A .parquet or .jsonl file, or a folder of them.")],
    destination: Annotated[
        Path, typer.Argument(help="A folder for the scores; the same one goes on where it stopped.")
    ],
    model: ModelOption = "BAAI/bge-reranker-v2-m3",
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, any option of load_scorer, such as max_length=256; repeat it."),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="Such as cuda:0,cuda:1; default: the first GPU, else the CPU.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="Holds a string or a whole number.")] = "id",
    query_column: Annotated[str, typer.Option(help="Holds what is asked.")] = "query",
    passage_column: Annotated[
        str | None, typer.Option(help="Holds a text or a list of texts; default: passage or passages.")
    ] = None,
    block_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows scored and written together; default: 5000.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("--format", help="parquet or jsonl; default: as the input.")
    ] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Score with this many Ray actors.")] = None,
    gpus_per_actor: Annotated[float, typer.Option(min=0, help="GPUs that Ray reserves for each actor.")] = 0,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, such as auto; default: this machine.")] = None,
) -> None:
    """Score every row of a data set exactly once, whenever it is stopped and taken up again."""
    from bge_rerank_integrations.dataset import Columns
    from bge_rerank_integrations.dataset.job import BLOCK_ROWS, Job, run_job
    from bge_rerank_integrations.dataset.runner import Model, in_process

    chosen = Model(model, _options(option or []))
    named = None if devices is None else devices.split(",")
    columns = Columns(id_column, query_column, passage_column)
    job = Job(
        source,
        destination,
        chosen,
        columns,
        block_rows or BLOCK_ROWS,
        output_format,  # type: ignore[arg-type]  # checked there, with the message for it
    )
    if actors is None and address is None:
        if gpus_per_actor:
            raise OptionError(f"--gpus-per-actor {gpus_per_actor:g} is for Ray: say how many --actors")
        start = partial(in_process, chosen, named)
    else:
        from bge_rerank_integrations.ray.pool import Placing, actor_pool

        start = partial(actor_pool, chosen, Placing(named, actors, gpus_per_actor, address))
    messages = Console(stderr=True)
    try:
        with _shown(messages) as watch:
            summary = run_job(job, start, watch)
    except KeyboardInterrupt:
        messages.print("Stopped. The same command goes on from here.")
        raise
    _print(summary)


def _print(summary: Summary) -> None:
    console = Console()
    lines = [f"{summary.rows - summary.set_aside:,} of {summary.rows:,} rows have scores in {summary.folder}"]
    if summary.set_aside:
        lines.append(f"{summary.set_aside:,} could not be scored: {summary.folder / '_set_aside'} says why")
    if summary.rows_now < summary.rows:
        lines.append(f"{summary.rows - summary.rows_now:,} rows were done before")
    if summary.pairs_now:
        rate = summary.pairs_now / summary.seconds
        lines.append(f"{summary.pairs_now:,} pairs in {summary.seconds:,.1f} s: {rate:,.0f} a second")
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _options(given: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--option {text}: use NAME=VALUE, such as max_length=256")
        if name in options:
            raise OptionError(f"--option {name} is given twice")
        options[name] = _value(name, value)
    return options


def _value(name: str, text: str) -> Any:
    try:
        if name in SWITCHES:
            return SWITCHED[text.lower()]
        if name in NUMBER_LISTS:
            return [int(number) for number in text.split(",")]
        if name in (*WHOLE_NUMBERS, "token_budget", "max_queued_tokens", "cache_size"):
            return int(text)
        return float(text) if name == "timeout" else text
    except (ValueError, KeyError) as error:
        kind = "true or false" if name in SWITCHES else "a number"
        raise OptionError(f"--option {name}={text}: use {kind}") from error


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def _shown(console: Console) -> Iterator[Watch]:
    """A bar for each thing that is being done; where the console is no terminal, a line a minute."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}
        printed = time.monotonic()

        def watch(what: str, done: int, total: int) -> None:
            nonlocal printed
            if what not in tasks:
                for other in tasks.values():
                    progress.update(other, visible=False)
                tasks[what] = progress.add_task(what, total=total, completed=done)
            progress.update(tasks[what], completed=done, total=total)
            now = time.monotonic()
            if not console.is_terminal and now - printed >= SECONDS_BETWEEN_LINES:
                console.print(f"{what}: {done:,} of {total:,}", highlight=False)
                printed = now

        yield watch
