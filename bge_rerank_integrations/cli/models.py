"""`bge-rerank models`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

HEADINGS = {
    "en": ("Published BGE rerankers", "model", "size\ntokens", "languages: good for"),
    "zh": ("已发布的 BGE 重排序模型", "模型", "参数量\ntoken 数", "语言：适用场景"),
}


def models(
    language: Annotated[str, typer.Option(help="Of your texts: english, chinese or multilingual.")] = "multilingual",
    priority: Annotated[str, typer.Option(help="balanced, efficiency or performance.")] = "balanced",
    lang: Annotated[str, typer.Option(help="Of what is printed: en or zh.")] = "en",
    every: Annotated[bool, typer.Option("--all", help="Show which other checkpoints load, too.")] = False,
) -> None:
    """List the six published models, and which of them the publisher recommends."""
    from bge_rerank_integrations.catalog import MODELS, advice, recommend

    said = advice(language, priority, lang)  # type: ignore[arg-type]  # checked there
    chosen = [model.name for model in recommend(language, priority)]  # type: ignore[arg-type]
    title, *columns = HEADINGS[lang]
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column(columns[0], no_wrap=True)
    table.add_column(columns[1], justify="right")
    table.add_column(columns[2], overflow="fold")  # Chinese has no spaces to break lines at
    for model in MODELS:
        name = f"[bold green]{model.name}[/]" if model.name in chosen else model.name
        speaks, good_for = (
            (f"{model.languages_zh}：", model.good_for_zh) if lang == "zh" else (f"{model.languages}: ", model.good_for)
        )
        table.add_row(
            f"{name}\n[dim]{model.family} · {model.base_model} · {model.licence}[/]",
            f"{model.parameters}\n{model.context:,}",
            f"[dim]{speaks}[/]{good_for}",
        )
    console = Console()
    console.print(table)
    console.print(said)
    if every:
        _show_supported(console)


def _show_supported(console: Console) -> None:
    from bge_rerank_integrations.supported import FILES, SUPPORTED

    table = Table(title="\nWhat loads, whoever trained it", title_justify="left")
    for heading in ("base", "model_type", "score", "family", "forward pass"):
        table.add_column(heading, overflow="fold")
    for line in SUPPORTED:
        table.add_row(line.base, line.model_type, line.head, line.family, line.way)
    console.print(table)
    console.print("And every other base that transformers has a ForSequenceClassification class for, by that class.")
    for source, what in FILES:
        console.print(f"- {source}: {what}", soft_wrap=True)
