"""`bge-rerank bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bge_rerank_integrations.cli.options import DeviceOption


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
