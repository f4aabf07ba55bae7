"""`bge-rerank models`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


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
