"""What was measured, as tables for a terminal and as a figure."""

from __future__ import annotations

from pathlib import Path

from bge_rerank_integrations.extras import require

require("cli")

from rich import box
from rich.console import Console
from rich.table import Table

from bge_rerank_integrations.bench.run import Report, Timing, Work
from bge_rerank_integrations.errors import MissingExtraError
from bge_rerank_integrations.terminal import escape


def show(report: Report, console: Console) -> None:
    """Print a table for each workload."""
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    console.print(
        f"[bold]{report.model}[/] ({report.family}, {report.dtype}) on {report.device}, {report.hardware}, "
        f"{report.threads} threads; median of {report.rounds} rounds; {versions}",
        highlight=False,
    )
    for work in report.work:
        console.print(_table(report, work))
        for timing in report.timings:
            if timing.workload == work.name and timing.problem:
                reason = " ".join(timing.problem.split())[:200]
                console.print(f"[red]{timing.peer}[/]: {escape(reason)}", highlight=False)


def _table(report: Report, work: Work) -> Table:
    rows = [timing for timing in report.timings if timing.workload == work.name]
    ours = next(timing for timing in rows if timing.peer == "ours")
    table = Table(
        title=f"{work.name}: {work.pairs:,} pairs, {work.tokens:,} tokens; peak {work.peak_flops / 1e9:,.0f} GFLOP/s",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for heading in ("seconds", "ratio", "pairs/s", "tokens/s", "memory", "of peak"):
        table.add_column(heading, justify="right")
    for timing in sorted((t for t in rows if not t.problem), key=lambda t: t.median):
        name = f"[bold green]{timing.peer}[/]" if timing is ours else timing.peer
        table.add_row(name, *_figures(timing, ours, work))
    return table


def _figures(timing: Timing, ours: Timing, work: Work) -> tuple[str, ...]:
    seconds = timing.median
    memory = "" if timing.extra_bytes is None else f"{timing.extra_bytes / 2**20:,.0f} MB"
    return (
        f"{seconds:.3f}",
        f"{seconds / ours.median:.2f}" if ours.seconds else "",
        f"{work.pairs / seconds:,.1f}",
        f"{work.tokens / seconds:,.0f}",
        memory,
        f"{work.flops / seconds / work.peak_flops:.0%}",
    )


def plot(report: Report, path: Path) -> None:
    """Write a figure of pairs per second, with a group of bars for each workload."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError(["matplotlib"], "plot") from error
    names = list(dict.fromkeys(timing.peer for timing in report.timings if timing.seconds))
    figure = Figure(figsize=(2.5 + 2 * len(report.work), 4), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(names):
        medians = {t.workload: t.median for t in report.timings if t.seconds and t.peer == name}
        bars = [work.pairs / medians[work.name] if work.name in medians else 0.0 for work in report.work]
        axes.bar([i + index / (len(names) + 1) for i in range(len(bars))], bars, 1 / (len(names) + 1), label=name)
    axes.set_xticks([i + (len(names) - 1) / 2 / (len(names) + 1) for i in range(len(report.work))])
    axes.set_xticklabels([work.name for work in report.work])
    axes.set_ylabel("pairs per second")
    axes.set_title(f"{report.model}, {report.dtype}, {report.device}")
    axes.legend()
    figure.savefig(path, dpi=150)
