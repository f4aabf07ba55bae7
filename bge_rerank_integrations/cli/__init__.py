"""The command line: `demo`, `rank`, `models`, `bench`, `evaluate`, `serve`, `score-dataset`, each in its own file."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from rich.console import Console

from bge_rerank_integrations import __version__
from bge_rerank_integrations.cli import bench, demo, evaluate, models, rank, score_dataset, serve
from bge_rerank_integrations.errors import RerankError
from bge_rerank_integrations.terminal import escape

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="BGE rerankers for LangChain and LlamaIndex.",
)
_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""click's ClickException, of which some versions of typer have a copy of their own."""
_COMMANDS = (
    demo.demo,
    rank.rank,
    models.models,
    bench.bench,
    evaluate.evaluate,
    serve.serve,
    score_dataset.score_dataset,
)
for command in _COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; what goes wrong is one line on standard error.

    Exit status: 0 if all went well, 1 if something went wrong, 2 if the command makes no sense, 130 if it was stopped
    (Ctrl-C), 141 if whoever reads its output has gone (`| head`): as shells know them.
    """
    sys.exit(_run())


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where it is not UTF-8, nothing is lost
    if sys.stdout is None:
        return _failed("there is no standard output to write to")
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except typer.Abort:  # what some versions of typer make of it
        return 130
    except _USAGE_ERROR as error:
        if len(sys.argv) < 2:  # the message is the help
            print(error.format_message())
            return 2
        return _failed(f"{error.format_message()} (--help shows what there is)", 2)
    except (BrokenPipeError, SystemExit):  # which click makes of it, and of nothing else
        _write_nothing_more()
        return 141
    except (RerankError, ValueError, TypeError, OSError, MemoryError) as error:
        _write_nothing_more()
        return _failed(str(error) or "out of memory")
    return status if isinstance(status, int) else 0


def _failed(message: str, status: int = 1) -> int:
    line = escape(" ".join(message.split()))
    Console(stderr=True, soft_wrap=True).print(f"[bold red]Error:[/] {line}", highlight=False)
    return status


def _write_nothing_more() -> None:
    """Let what could not be written go, or Python would try once more at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
