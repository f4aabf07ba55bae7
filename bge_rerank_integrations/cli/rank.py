"""`bge-rerank rank`: texts out of files or standard input, in the order of their scores."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from bge_rerank_integrations.cli.options import DeviceOption, ModelOption


class Split(str, Enum):
    """What makes one text of a plain file."""

    line = "line"
    paragraph = "paragraph"
    file = "file"


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
