"""`bge-rerank rank`: texts out of files or standard input, in the order of their scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bge_rerank_integrations.cli.options import (
    ApiKeyOption,
    DeviceOption,
    DialectOption,
    EncodingOption,
    ModelOption,
    ServedModelOption,
    key_for,
)
from bge_rerank_integrations.cli.texts import Entry, Reader, Split
from bge_rerank_integrations.errors import DataError, OptionError
from bge_rerank_integrations.options import RankingOptions, ScoringOptions
from bge_rerank_integrations.reranking import Cut, Plan, Reranked
from bge_rerank_integrations.terminal import escape
from bge_rerank_integrations.text_choice import Passage, heads
from bge_rerank_integrations.textfiles import checked_text

CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Characters that JSON may leave as they are, and that terminals may obey."""
DEFAULT, RANKING = ScoringOptions(), RankingOptions()
RESULT_KEYS = ("index", "relevance_score")
"""What the JSON lines say about each text, whatever its object said under these names before."""


def rank(
    query: Annotated[str, typer.Argument(help="What is asked.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Texts: plain files, .jsonl, .json (an array), .csv or .tsv. Default: standard input."),
    ] = None,
    model: ModelOption = "BAAI/bge-reranker-v2-m3",
    top_n: Annotated[int, typer.Option(min=0, help="Results to show; 0: all.")] = 10,
    threshold: Annotated[float | None, typer.Option(help="Show only scores of at least this.")] = None,
    split: Annotated[Split, typer.Option(help="What is one text of a plain file.")] = Split.line,
    field: Annotated[str, typer.Option(help="The key of a JSON object, or the column, that holds its text.")] = "text",
    metadata_field: Annotated[
        list[str] | None,
        typer.Option(help="Another key or column, such as title, that is scored before each text; repeat it."),
    ] = None,
    long: Annotated[
        str, typer.Option(help="Texts that do not fit beside the query: truncate, windows or refuse.")
    ] = RANKING.long,
    window_overlap: Annotated[int, typer.Option(help="Tokens that a window repeats.")] = RANKING.window_overlap,
    max_windows: Annotated[int, typer.Option(help="Windows of a text at most.")] = RANKING.max_windows,
    blank: Annotated[str, typer.Option(help="Texts without a word: last, drop or score.")] = RANKING.blank,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Of texts that differ in white space and case alone, show the best.")
    ] = RANKING.deduplicate,
    fusion: Annotated[
        str, typer.Option(help="How the order in which texts come in counts: none, rrf or weighted.")
    ] = RANKING.fusion,
    fusion_weight: Annotated[float, typer.Option(help="Its share, 0 to 1.")] = RANKING.fusion_weight,
    retrieval_score_field: Annotated[
        str | None, typer.Option(help="The key or column with a retriever's score, to count in place of the order.")
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Read everything as JSON lines.")] = False,
    encoding: EncodingOption = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
    device: DeviceOption = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, float16, bfloat16, int8 or fastest.")] = "auto",
    dialect: DialectOption = None,
    served_model: ServedModelOption = None,
    api_key: ApiKeyOption = None,
    scale: Annotated[str, typer.Option(help="logit or sigmoid.")] = DEFAULT.scale,
    max_length: Annotated[int, typer.Option(help="Tokens kept of query and text.")] = DEFAULT.max_length,
    query_max_length: Annotated[
        int | None, typer.Option(help="Tokens kept of the query; default: three quarters of --max-length.")
    ] = None,
    query_instruction: Annotated[str | None, typer.Option(help="Text put before the query.")] = None,
    passage_instruction: Annotated[str | None, typer.Option(help="Text put before each text.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Decoders: the question after each pair.")] = None,
    cutoff_layer: Annotated[int | None, typer.Option(help="Layerwise and lightweight models: layers to run.")] = None,
    compress_ratio: Annotated[
        int, typer.Option(help="Lightweight models: 1, 2, 4 or 8 passage tokens in one.")
    ] = DEFAULT.compress_ratio,
    compress_layers: Annotated[
        str, typer.Option(help="Lightweight models: before which layers, with commas.")
    ] = ",".join(map(str, DEFAULT.compress_layers)),  # type: ignore[arg-type]  # a tuple, once it is checked
    head_index: Annotated[
        str, typer.Option(help="Lightweight models: which head scores, by position or layer.")
    ] = DEFAULT.head_index,
    attention_softcap: Annotated[
        bool, typer.Option("--attention-softcap", help="Lightweight models: apply the soft cap of config.json.")
    ] = DEFAULT.attention_softcap,
) -> None:
    """Order texts by how well they answer QUERY."""
    from bge_rerank_integrations.loading import load_scorer
    from bge_rerank_integrations.ranking import check_threshold

    if as_json and field in RESULT_KEYS:
        raise OptionError(f"--field {field}: --json writes its own {field!r}; give the texts another key")
    check_threshold(threshold, scale)  # type: ignore[arg-type]  # checked by load_scorer, with the message for it
    ranking = RankingOptions(
        metadata_fields=metadata_field or (),
        long=long,  # type: ignore[arg-type]
        window_overlap=window_overlap,
        max_windows=max_windows,
        blank=blank,  # type: ignore[arg-type]  # checked there
        deduplicate=deduplicate,
        fusion=fusion,  # type: ignore[arg-type]
        fusion_weight=fusion_weight,
    )
    checked_text("the command line", "QUERY", query)
    messages = Console(stderr=True)
    entries = Reader(split, field, jsonl, encoding).read(files or [])
    if not entries:
        where = ", ".join(map(str, files or [])) or "standard input"
        messages.print(f"No text in {escape(where)}: nothing to rank.", highlight=False)
        return
    scorer = load_scorer(
        model,
        dialect=dialect,
        served_model=served_model,
        api_key=key_for(dialect, api_key),
        devices=device,
        dtype=dtype,
        max_length=max_length,
        query_max_length=query_max_length,
        scale=scale,  # type: ignore[arg-type]  # checked by load_scorer, with the message for it
        query_instruction=query_instruction,
        passage_instruction=passage_instruction,
        prompt=prompt,
        cutoff_layer=cutoff_layer,
        compress_ratio=compress_ratio,
        compress_layers=_numbers(compress_layers),
        head_index=head_index,  # type: ignore[arg-type]  # checked by load_scorer, too
        attention_softcap=attention_softcap,
    )
    metadata = heads([entry.others for entry in entries], ranking.metadata_fields)
    retrieved = [_retrieval_score(entry, retrieval_score_field) for entry in entries]
    passages = list(map(Passage, (entry.text for entry in entries), metadata, retrieved))
    with scorer, Progress(console=messages, transient=True, disable=not messages.is_terminal) as progress:
        plan = Plan.of(query, passages, ranking, scorer)
        task = progress.add_task("scoring", total=len(plan.texts))
        told = scorer.rank(query, plan.texts, on_progress=lambda done, _: progress.update(task, completed=done))
    ranked = plan.ranking(told, Cut.checked(top_n or None, threshold, scale))  # type: ignore[arg-type]
    if cut := getattr(scorer, "truncated_pairs", 0):
        messages.print(
            f"{cut:,} of {len(plan.texts):,} texts were longer than --max-length with the query, and their ends were "
            "not read: use --long windows.",
            highlight=False,
        )
    if not ranked:
        found = plan.ranking(told, Cut.checked(None, None, scale))  # type: ignore[arg-type]  # checked by now
        if not found:
            messages.print("No text has a word, and --blank drop leaves them out: nothing to rank.", highlight=False)
            return
        best = max(one.rerank_score for one in found)
        messages.print(f"No text scores {threshold} or more: the best has {best:.3f}.", highlight=False)
    elif as_json:
        _print_json(entries, ranked, field)
    else:
        _print_table(query, entries, ranked)


def _retrieval_score(entry: Entry, key: str | None) -> float | None:
    score = None if key is None else entry.others.get(key)
    try:
        return None if score in (None, "") else float(score)
    except (TypeError, ValueError) as error:
        raise DataError(f"--retrieval-score-field {key}: {score!r} is no number") from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise OptionError(f"--compress-layers {text}: use layer numbers with commas, such as 8,24") from error


def _print_json(entries: list[Entry], ranked: list[Reranked], field: str) -> None:
    escapes = not sys.stdout.encoding.lower().startswith("utf")
    for one in ranked:
        entry = entries[one.index]
        others = {key: value for key, value in entry.others.items() if key not in (*RESULT_KEYS, field)}
        source = {"source": entry.source} if entry.source and field != "source" else {}
        row = {"index": one.index, "relevance_score": one.score, field: entry.text} | others | source | _details(one)
        print(json.dumps(row, ensure_ascii=escapes).translate(CONTROLS))


def _details(one: Reranked) -> dict[str, Any]:
    """With fusion, what the score is made of; with windows, the best one's characters."""
    window = {} if one.span is None else {"best_window": one.span}
    if one.retrieval_rank is None:
        return window
    return window | {"rerank_score": one.rerank_score, "retrieval_rank": one.retrieval_rank}


def _print_table(query: str, entries: list[Entry], ranked: list[Reranked]) -> None:
    table = Table(title=escape(query), title_justify="left")
    table.add_column("score", justify="right")
    table.add_column("text")
    sources = [entries[one.index].source or str(entries[one.index].others.get("source", "")) for one in ranked]
    if any(sources):
        table.add_column("from")
    for one, source in zip(ranked, sources, strict=True):
        text = " ".join(entries[one.index].text.split())
        cells = [f"{one.score:.3f}", escape(text[:200]), escape(source)]
        table.add_row(*cells[: len(table.columns)])
    Console().print(table)
