"""`bge-rerank demo`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from bge_rerank_integrations.cli.options import DeviceOption, ModelOption
from bge_rerank_integrations.errors import OptionError


def demo(
    query: Annotated[list[str] | None, typer.Option(help="Your own question about Python; may be repeated.")] = None,
    model: ModelOption = "demo",
    top_n: Annotated[int, typer.Option(min=1, help="Passages to show for each question.")] = 5,
    device: DeviceOption = None,
) -> None:
    """Rerank real passages of Python's documentation through LangChain and LlamaIndex, and show before and after."""
    if not all(question.strip() for question in query or ()):
        raise OptionError("--query is empty: give a question")
    from bge_rerank_integrations.demo import show
    from bge_rerank_integrations.loading import load_scorer

    with load_scorer(model, devices=device) as scorer:
        show.run(scorer, model, query or None, top_n, Console())
