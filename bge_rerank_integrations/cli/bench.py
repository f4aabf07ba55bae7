"""`bge-rerank bench`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bge_rerank_integrations.cli.options import ApiKeyOption, DeviceOption, DialectOption, ServedModelOption, key_for
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.terminal import escape

ALONE = "none"


def bench(
    model: Annotated[
        str,
        typer.Option(
            help="Hub id, folder, demo, the address of a server, or random:NAME[:PART of its layers] for a published "
            "shape."
        ),
    ] = "random:bge-reranker-base",
    against: Annotated[
        str | None,
        typer.Option(
            help="Peers, with commas: NAME[:PAIRS a batch][=PYTHON of another environment]; none: this package alone. "
            "Default: transformers; for a server: none."
        ),
    ] = None,
    workloads: Annotated[str, typer.Option(help="With commas: mixed, many, long, single.")] = "mixed,many,long,single",
    rounds: Annotated[int, typer.Option(help="In each, everything is timed once, in turn; medians are shown.")] = 8,
    scale: Annotated[float, typer.Option(help="Part of each workload to take, up to 1.")] = 1.0,
    beside: Annotated[int, typer.Option(help="Time everything again beside so many busy processes.")] = 0,
    device: DeviceOption = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    roofline: Annotated[
        str | None,
        typer.Option(
            help="Time nothing, but estimate what a GPU would take, without one: h100, h200, a100, l4, 4090, or its "
            "peaks, such as tflops=790,tb_s=3.0."
        ),
    ] = None,
    dialect: DialectOption = None,
    served_model: ServedModelOption = None,
    api_key: ApiKeyOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything measured to this file.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Write a figure to this file.")] = None,
) -> None:
    """Time this package, or a server, against others on the same pairs, in turn, after checking that scores agree."""
    from bge_rerank_integrations.bench import report
    from bge_rerank_integrations.bench.run import benchmark
    from bge_rerank_integrations.bench.server import benchmark_server
    from bge_rerank_integrations.loading import is_address

    for file in (json_file, plot_file):
        if file and not file.absolute().parent.is_dir():  # found before minutes of work
            raise OptionError(f"{file}: {file.parent} is not a folder; make it first")
    with Console(stderr=True).status("") as status:

        def say(message: str) -> None:
            status.update(escape(message))

        if roofline:
            _estimate(model, roofline, workloads.split(","), scale, dtype, json_file)
            return
        if is_address(model) or dialect or served_model:
            if against not in (None, ALONE):
                raise OptionError(f"--against {against}: a server is timed alone; leave it out")
            measured = benchmark_server(
                model,
                workloads.split(","),
                dialect=dialect,
                served_model=served_model,
                api_key=key_for(dialect, api_key),
                rounds=rounds,
                scale=scale,
                beside=beside,
                device=device,
                dtype=dtype,
                say=say,
            )
        else:
            named = "transformers" if against is None else against
            measured = benchmark(
                model,
                [] if named == ALONE else [peer for peer in named.split(",") if peer],
                workloads.split(","),
                rounds=rounds,
                scale=scale,
                beside=beside,
                device=device,
                dtype=dtype,
                say=say,
            )
    report.show(measured, Console())
    if measured.dtype in ("bfloat16", "float16"):
        _expected(model, measured.device, measured.dtype, workloads.split(","), scale)
    if json_file:
        json_file.write_text(measured.to_json())
    if plot_file:
        report.plot(measured, plot_file)


def _estimate(
    model: str, roofline: str, workloads: list[str], scale: float, dtype: str, json_file: Path | None
) -> None:
    """Print what a card would take, and write it to the file."""
    from bge_rerank_integrations.bench.roofline import report
    from bge_rerank_integrations.bench.roofline.cards import card
    from bge_rerank_integrations.bench.roofline.estimate import estimate

    chosen = card(roofline)
    half = "bfloat16" if dtype == "auto" else dtype
    estimates = estimate(model, chosen, workloads, dtype=half, scale=scale)
    report.show(model, half, chosen, estimates, Console())
    if json_file:
        json_file.write_text(json.dumps({"estimate": [asdict(one) for one in estimates], "card": asdict(chosen)}))


def _expected(model: str, device: str, dtype: str, workloads: list[str], scale: float) -> None:
    """Print, below what was measured on a GPU, what was to be expected of it."""
    from bge_rerank_integrations.bench.roofline import report
    from bge_rerank_integrations.bench.roofline.cards import card_of
    from bge_rerank_integrations.bench.roofline.estimate import estimate

    if (card := card_of(device)) is not None:
        report.show(model, dtype, card, estimate(model, card, workloads, dtype=dtype, scale=scale), Console())
