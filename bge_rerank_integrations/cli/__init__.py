"""The command line: `bge-rerank demo`, `rank`, `models`, `bench`, `evaluate`, `score-dataset`, each in its own file."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bge_rerank_integrations import __version__
from bge_rerank_integrations.cli import bench, demo, evaluate, models, rank, score_dataset
from bge_rerank_integrations.errors import RerankError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="BGE rerankers for LangChain and LlamaIndex.",
)
for command in (demo.demo, rank.rank, models.models, bench.bench, evaluate.evaluate, score_dataset.score_dataset):
    app.command()(command)


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
