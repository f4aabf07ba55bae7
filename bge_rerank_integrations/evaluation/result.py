"""The result of an evaluation: rows to compare, as a table, as JSON, as a figure."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bge_rerank_integrations.evaluation.data import counted
from bge_rerank_integrations.evaluation.figure import draw
from bge_rerank_integrations.evaluation.metrics import Estimate
from bge_rerank_integrations.evaluation.rows import QUALITY, Row
from bge_rerank_integrations.terminal import escape

NARROWEST_NAME, LONGEST_WORD = 14, 24
"""The column of names has at least `NARROWEST_NAME` letters, and does not break words of up to `LONGEST_WORD`."""
_WORDS = re.compile(r"[^-\s,=+/_]+[-\s,=+/_]*|[-\s,=+/_]+")
"""The words of a name, each with the punctuation after it."""


@dataclass(frozen=True)
class Result:
    """All measurements, and how they were made. The first row is the first stage."""

    data: str
    queries: int
    depth: int
    first_stage: str
    notes: list[str]
    timing: dict[str, Any]
    versions: dict[str, str]
    hardware: str
    rows: list[Row] = field(default_factory=list)

    def to_json(self) -> str:
        """All figures; `method` says how they were made."""
        return json.dumps({"method": self.method(), "advice": self.advice(), **asdict(self)}, indent=1) + "\n"

    def method(self) -> list[str]:
        """How the figures were made, in sentences."""
        queries, candidates = counted(self.queries, "query", "queries"), counted(self.depth, "candidate", "candidates")
        sampled = counted(len(self.timing["queries"]), "sampled query", "sampled queries")
        threads = counted(self.timing["threads"], "thread", "threads")
        return [
            f"Quality: {queries} with at most {candidates}; below means are 95% bootstrap "
            "intervals over queries; the difference to the first stage is paired. Equal scores keep the first stage's "
            "order.",
            f"Time: seconds for one query with all its candidates, the median of {sampled} after three "
            "calls to warm up, each configuration timed by itself at its own cutoff, in turn; the first stage's own "
            f"time is not in it. {self.timing['hardware']}, {threads}.",
            "Memory: the most that the longest sampled query took beyond the loaded weights.",
        ]

    def advice(self) -> str:
        """Which row to choose: the fastest that is not measurably worse than the best."""
        best = max(self.rows, key=lambda row: (row.metrics[QUALITY].value, -row.cost))
        close = [
            row for row in self.rows if row is best or (row.behind_best.low is not None and row.behind_best.low <= 0)
        ]
        chosen = min(close, key=lambda row: (row.cost, -row.metrics[QUALITY].value))
        if best.behind_best.low is None:
            return "A single query says nothing about others: use more queries."
        told = f"Best {QUALITY}: {best.name} ({best.metrics[QUALITY].value:.3f})."
        if chosen is best:
            return f"{told} Every faster row is measurably worse." if best.cost else f"{told} No reranker is better."
        gap = chosen.behind_best
        told += f" Fastest that is not measurably worse: {chosen.name} ({chosen.metrics[QUALITY].value:.3f}; lower by"
        told += f" {gap.value:.3f}, 95% interval {gap.low:.3f} to {gap.high:.3f}), "
        share = f"{chosen.cost / best.cost:.0%} of the time." if chosen.cost else "no reranking at all."
        return told + share + " More queries would show the difference better."

    def table(self, width: int = 80, mark: str = "●") -> Table:
        """The rows as a table: the first stage, then the others, best first.

        Args:
            width: letters in a line. Names are wrapped; figures are never cut, and can make the table wider.
            mark: the sign for the Pareto front.
        """
        measures = list(self.rows[0].metrics)
        first, *others = self.rows
        rows = [first, *sorted(others, key=lambda row: -row.metrics[QUALITY].value)]
        columns = {
            **{
                measure + ("\n(max)" if measure == f"R@{self.depth}" else ""): [
                    _shown(row.metrics[measure], interval=measure == QUALITY) for row in rows
                ]
                for measure in measures
            },
            "minus first\nstage, nDCG": [_difference(row) for row in rows],
            "seconds\na query": ["" if row.seconds is None else _seconds(row.seconds.median) for row in rows],
            "memory\nMB": ["" if row.extra_bytes is None else f"{row.extra_bytes / 2**20:,.0f}" for row in rows],
        }
        widths = [_width("\n".join([head, *cells])) for head, cells in columns.items()]
        longest = max(cell_len(word.rstrip()) for row in rows for word in _WORDS.findall(row.name))
        narrowest = max(NARROWEST_NAME, min(longest, LONGEST_WORD))
        room = max(narrowest, width - sum(widths) - len(widths) - 2)
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=0,
            show_edge=False,
            title=escape(self.data),
            title_justify="left",
            title_style="bold",
        )
        table.add_column("", width=1)
        table.add_column("configuration", overflow="fold", min_width=narrowest, max_width=room)
        for head, letters in zip(columns, widths, strict=True):
            table.add_column(head, justify="right", min_width=letters)
        for row, *cells in zip(rows, *columns.values(), strict=True):
            name = escape(_wrapped(row.name, room))
            if row.on_front:
                table.add_row(f"[green]{mark}[/]", f"[bold green]{name}[/]", *cells)
            else:
                table.add_row("", name, *cells)
        return table

    def show(self, console: Console) -> None:
        """Print the table, what it means and how the figures were made."""
        mark = "*" if console.options.ascii_only else "●"
        table = self.table(console.width, mark)
        needed = Measurement.get(console, console.options.update(max_width=1000), table).minimum
        console.print(table, width=max(console.width, needed), no_wrap=True, overflow="ignore", crop=False)
        console.print(f"[green]{mark}[/] on the Pareto front: no other row is as good and as fast.")
        console.print(f"[bold]{escape(self.advice())}[/]", highlight=False)
        for row in self.rows:
            if row.tied_queries:
                console.print(
                    f"[yellow]{escape(row.name)}: one score for all candidates, so in the first stage's order: "
                    f"{counted(row.tied_queries, 'query', 'queries')}[/]",
                    highlight=False,
                )
            if row.chosen_weights:
                shown = " and ".join(f"{weight:g}" for weight in row.chosen_weights)
                console.print(
                    f"{escape(row.name)}: the first stage's weight, chosen on each half of the queries and measured on "
                    f"the other: {shown}",
                    highlight=False,
                )
        for note in self.notes:
            console.print(f"[yellow]{escape(note)}[/]", highlight=False)
        for sentence in self.method():
            console.print(f"[dim]{escape(sentence)}[/]", highlight=False)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write the figure, nDCG@10 against seconds for one query. The suffix gives the format."""
        draw(self.rows, f"{self.data}: {counted(self.queries, 'query', 'queries')}", self.depth, Path(path))

    def write(self, folder: Path) -> None:
        """Write results.json, figure.png and figure.svg."""
        (folder / "results.json").write_text(self.to_json(), encoding="utf-8")
        self.plot(folder / "figure.png")
        self.plot(folder / "figure.svg")


def _shown(estimate: Estimate, interval: bool) -> str:
    if not interval or estimate.low is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f}\n[dim]{_bare(estimate.low)}-{_bare(estimate.high)}[/]"


def _difference(row: Row) -> str:
    if not row.difference:
        return ""
    estimate = row.difference[QUALITY]
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.3f}"
    sure = estimate.low > 0 or estimate.high < 0
    style = "bold" if sure else "dim"
    return f"[{style}]{estimate.value:+.3f}[/]\n[dim]{_bare(estimate.low, '+')}..{_bare(estimate.high, '+')}[/]"


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:,.2f}"


def _bare(value: float | None, sign: str = "") -> str:
    """Three digits without the leading zero: the table must fit a terminal of 80 letters."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _width(markup: str) -> int:
    """The width of its longest line."""
    return max(map(cell_len, Text.from_markup(markup).plain.split("\n")))


def _wrapped(name: str, room: int) -> str:
    """A name in lines that end between words. The table cuts only a word that is longer than a line."""
    lines = [""]
    for word in _WORDS.findall(name):
        if lines[-1] and cell_len((lines[-1] + word).rstrip()) > room:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)
