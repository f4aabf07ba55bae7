"""What was measured, as tables for a terminal and as a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from bge_rerank_integrations.extras import require

require("cli")

from rich import box
from rich.console import Console
from rich.table import Table

from bge_rerank_integrations.bench import load
from bge_rerank_integrations.bench.results import Report, Timing, Work
from bge_rerank_integrations.bench.verdict import Comparison, quartiles
from bge_rerank_integrations.errors import MissingExtraError
from bge_rerank_integrations.terminal import escape

NOT_QUIET = 0.1
"""Cores that others may use, as a part of all, in what is called quiet."""


def show(report: Report, console: Console) -> None:
    """Print a table for each workload, and what there is to know before one believes it."""
    console.print(_heading(report), highlight=False)
    console.print(_load_before(report), highlight=False)
    for work in report.work:
        table = _table(report, work)
        print_table(table, console)
        for line in (*_load_during(report, work), *_doubts(report, work)):
            console.print(line, highlight=False)
    for line in (*_problems(report), *_legend(report)):
        console.print(line, highlight=False)


def print_table(table: Table, console: Console) -> None:
    """Print a table as wide as it is: a narrow terminal folds lines, which can be read, not cells."""
    table.width = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.print(table, crop=False, soft_wrap=True)


def _heading(report: Report) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    rounds = f"medians of {report.rounds} rounds, one of each in turn; {versions}"
    if report.family is None:
        return (
            f"[bold]{escape(report.model)}[/] ({report.device}), asked from {report.hardware}; {rounds}\n"
            "A server is timed alone: peers, its memory and the peak of its machine cannot be had from here."
        )
    return (
        f"[bold]{escape(report.model)}[/] ({report.family}, {report.dtype}) on {report.device}, {report.hardware}, "
        f"{report.threads} threads; {rounds}"
    )


def _load_before(report: Report) -> str:
    averages = [
        f"{', '.join(f'{figure:.2f}' for figure in figures)} {when}"
        for figures, when in ((report.load_average, "before"), (report.load_average_after, "after"))
        if figures
    ]
    parts = [f"load average (1, 5, 15 minutes) {'; '.join(averages)}"] if averages else []
    used = load.average([report.loading])
    parts.append(
        "this system does not tell what others use"
        if used is None
        else f"others used {used:.2f} of {report.cores} cores while everything was loaded"
    )
    return "; ".join(parts)


def _table(report: Report, work: Work) -> Table:
    timings = report.timings_of(work.name)
    title = f"{work.name}: {work.pairs:,} pairs"
    if work.tokens is not None and work.peak_flops is not None:
        title += f", {work.tokens:,} tokens; peak {work.peak_flops / 1e9:,.0f} GFLOP/s"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    rows = [_cells(report, timing, work) for timing in sorted(filter(_shown, timings), key=lambda t: t.median)]
    headings = [heading for heading in (rows[0] if rows else {}) if any(row[heading] for row in rows)]
    table.add_column("", no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading.rstrip(), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[heading] for heading in headings))
    return table


def _shown(timing: Timing) -> bool:
    return timing.problem is None and bool(timing.seconds)


def _cells(report: Report, timing: Timing, work: Work) -> dict[str, str]:
    """A row by its headings; a column without any figure is not shown."""
    first, seconds = report.timings_of(work.name)[0], timing.median
    compared = report.comparisons(timing)
    return {
        "": f"[bold green]{timing.peer}[/]" if timing is first else timing.peer,
        "seconds": _seconds(seconds),
        "quartiles": _spread(timing.seconds),
        "ratio": _ratio(compared.get("quiet")),
        f"beside {report.beside}": _seconds(statistics.median(timing.beside)) if timing.beside else "",
        "quartiles ": _spread(timing.beside),
        "to quiet": _ratio(compared.get("slowdown")),
        "ratio ": _ratio(compared.get("busy")),
        "pairs/s": f"{work.pairs / seconds:,.1f}",
        "tokens/s": "" if work.tokens is None else f"{work.tokens / seconds:,.0f}",
        "memory": "" if timing.extra_bytes is None else f"{timing.extra_bytes / 2**20:,.0f} MB",
        "of peak": f"{work.flops / seconds / work.peak_flops:.0%}" if work.flops and work.peak_flops else "",
    }


def _seconds(seconds: float) -> str:
    """Three digits that mean something: 0.0661, 3.14, 35.5."""
    return f"{seconds:.{max(0, 2 - math.floor(math.log10(seconds)))}f}" if seconds > 0 else "0"


def _spread(seconds: list[float]) -> str:
    return "-".join(map(_seconds, quartiles(seconds))) if seconds else ""


def _ratio(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return "no verdict" if comparison.doubt else f"{comparison.ratio:.2f}"


def _load_during(report: Report, work: Work) -> Iterator[str]:
    """What others used while a workload was timed."""
    used, busy = load.average(work.quiet), load.average(work.busy)
    if used is None:
        return
    line = f"others used {used:.2f} cores, {load.busiest(work.quiet):.2f} in the worst round"
    if busy is not None:
        spent = work.busy_seconds / sum(span.seconds for span in work.busy)
        line += (
            f"; beside {report.beside}: {busy:.2f}, {load.busiest(work.busy):.2f}, and the busy processes {spent:.2f}"
        )
    if max(used, busy or 0.0) > NOT_QUIET * report.cores:
        line = f"[yellow]{line}: this machine was not left alone[/]"
    yield line


def _doubts(report: Report, work: Work) -> Iterator[str]:
    """Why there is no verdict."""
    for timing in filter(_shown, report.timings_of(work.name)):
        for name, comparison in report.comparisons(timing).items():
            if comparison.doubt:
                where = {"quiet": "", "busy": f", beside {report.beside}", "slowdown": ", to quiet"}[name]
                yield f"{timing.peer}{where}: no verdict, {comparison.doubt} (measured: {comparison.ratio:.3f})"


def _problems(report: Report) -> Iterator[str]:
    """Who could not be timed, and why: a line each."""
    places: dict[str, list[str]] = {}
    for timing in report.timings:
        if timing.problem:
            line = f"[red]{timing.peer}[/]: {escape(' '.join(timing.problem.split())[:400])}"
            places.setdefault(line, []).append(timing.workload)
    for line, workloads in places.items():
        yield line if len(workloads) == len(report.work) else f"{line} ({', '.join(workloads)})"


def _legend(report: Report) -> Iterator[str]:
    """The columns that do not explain themselves."""
    if any(report.comparisons(timing) for timing in report.timings):
        first = report.timings[0].peer
        yield (
            f"ratio: a row's median time divided by that of {first} in the same rounds, so above 1 {first} is faster; "
            "no verdict: the rounds differ too much to tell."
        )
    if report.beside:
        yield (
            f"beside {report.beside}: everything again, in the same rounds, beside so many busy processes; "
            "to quiet: that median divided by its own quiet one."
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
    axes.set_title(", ".join(part for part in (report.model, report.dtype, report.device) if part))
    axes.legend()
    figure.savefig(path, dpi=150)
