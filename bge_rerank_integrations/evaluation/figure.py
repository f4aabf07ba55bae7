"""The figure: quality against time, with the Pareto front and a label for every point."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import log
from pathlib import Path

from rich.cells import cell_len

from bge_rerank_integrations.errors import MissingExtraError
from bge_rerank_integrations.evaluation.data import counted
from bge_rerank_integrations.evaluation.rows import QUALITY, Row

AXES_INCHES = 6.2
LINE_INCHES = 0.25  # of a label
LETTER_INCHES = 0.08
LABELS_AT = 1 + 0.35 / AXES_INCHES  # where their column begins, in widths of the axes
LEFT, TOP, BOTTOM = 0.75, 0.75, 0.6  # inches around the axes
LONGEST_NAME, LONGEST_PART = 60, 24
FRONT, OTHER, BASELINE = "#0b6e4f", "#5b6472", "#b35900"


def draw(every_row: Sequence[Row], title: str, depth: int, path: Path) -> None:
    """Write the figure. Labels are in a column at the right, with lines to their points: none covers another.

    Args:
        every_row: the first stage and the configurations.
        depth: the largest number of candidates of a query.
        path: its suffix gives the format.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    except ModuleNotFoundError as error:
        raise MissingExtraError(["matplotlib"], "evaluate") from error

    first, *rows = sorted(every_row, key=lambda row: (bool(row.settings), -row.metrics[QUALITY].value))
    drawn = [first, *rows]
    names = [_shortened(row.name) for row in drawn]
    height = max(3.2, LINE_INCHES * (len(names) + 2))
    right = 0.6 + LETTER_INCHES * max(map(cell_len, names))
    size = (LEFT + AXES_INCHES + right, TOP + height + BOTTOM)
    figure = Figure(figsize=size)
    axes = figure.add_axes((LEFT / size[0], BOTTOM / size[1], AXES_INCHES / size[0], height / size[1]))

    base = first.metrics[QUALITY]
    axes.axhline(base.value, color=BASELINE, linestyle="--", linewidth=1.2, zorder=1)
    if base.low is not None and base.high is not None:
        axes.axhspan(base.low, base.high, color=BASELINE, alpha=0.08, linewidth=0, zorder=0)
    ends = [bound for row in rows if row.seconds for bound in (row.seconds.lower_quartile, row.seconds.upper_quartile)]
    middle = (min(ends) * max(ends)) ** 0.5
    left, far = min(min(ends) / 1.25, middle / 2), max(max(ends) * 1.25, middle * 2)
    axes.set_xscale("log")
    axes.set_xlim(left, far)
    for row in rows:
        value, seconds = row.metrics[QUALITY], row.seconds
        assert seconds is not None
        low, high = (value.low, value.high) if value.low is not None and value.high is not None else (value.value,) * 2
        axes.errorbar(
            seconds.median,
            value.value,
            xerr=[[seconds.median - seconds.lower_quartile], [seconds.upper_quartile - seconds.median]],
            yerr=[[max(0.0, value.value - low)], [max(0.0, high - value.value)]],
            fmt="o" if row.on_front else "s",
            markersize=7 if row.on_front else 5,
            color=FRONT if row.on_front else OTHER,
            ecolor=(FRONT if row.on_front else OTHER, 0.35),
            elinewidth=1.2,
            zorder=3,
        )
    stairs = sorted((row.cost or left, row.metrics[QUALITY].value) for row in every_row if row.on_front)
    stairs = [*stairs, (far, stairs[-1][1])]
    axes.plot(*zip(*stairs, strict=True), drawstyle="steps-post", color=FRONT, linewidth=1.5, alpha=0.7, zorder=2)

    bottom, top = axes.get_ylim()
    points = [
        (
            log(row.cost / left) / log(far / left) if row.cost else 1.0,
            (row.metrics[QUALITY].value - bottom) / (top - bottom),
        )
        for row in drawn
    ]
    heights = spread(sorted((y for _, y in points), reverse=True), LINE_INCHES / height)
    for index, label_height in zip(untangled(points, heights, LABELS_AT), heights, strict=True):
        name, row = names[index], drawn[index]
        colour = BASELINE if row is first else FRONT if row.on_front else OTHER
        axes.annotate(
            name,
            xy=(row.cost or far, row.metrics[QUALITY].value),
            xytext=(LABELS_AT, label_height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            fontweight="bold" if row.on_front else "normal",
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "shrinkA": 2,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )
    axes.set_ylim(bottom, top)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    candidates = counted(depth, "candidate", "candidates")
    axes.set_xlabel(f"seconds for one query of at most {candidates}, median and quartiles (log scale)")
    axes.set_ylabel(f"{QUALITY}, 95% interval")
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(
        LEFT / size[0],
        1 - 0.3 / size[1],
        title,
        weight="bold",
        va="center",
        parse_math=False,
    )
    figure.text(
        LEFT / size[0],
        1 - 0.55 / size[1],
        "better is up and to the left; round and bold: on the Pareto front",
        fontsize=9,
        va="center",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the table has the whole name
        figure.savefig(path, dpi=150)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Falling heights between 0 and 1, moved as little as possible to be `gap` apart: down, or up near 0."""
    moved: list[float] = []
    for height in heights:
        moved.append(min(height, moved[-1] - gap) if moved else height)
    floor = 0.0
    for index in reversed(range(len(moved))):
        moved[index] = max(moved[index], floor)
        floor = moved[index] + gap
    return moved


def _shortened(name: str) -> str:
    """A long name: first its long values are cut, then its middle. The start is the model, the end the last option."""
    if len(name) > LONGEST_NAME:
        cut = (part if len(part) <= LONGEST_PART else f"{part[: LONGEST_PART - 1]}…" for part in name.split(","))
        name = ",".join(cut)
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"


def untangled(points: Sequence[tuple[float, float]], heights: Sequence[float], x: float) -> list[int]:
    """Which point each label at `x` gets: no two lines from labels to points cross.

    From the top down, each label takes the point whose line has all other points below it.

    Args:
        points: all left of `x`.
        heights: of the labels, falling; one for each point.

    Returns:
        For each label the index of its point.
    """
    left = list(range(len(points)))
    chosen = []
    for height in heights:
        index = max(left, key=lambda i: ((points[i][1] - height) / (x - points[i][0]), points[i][0]))
        left.remove(index)
        chosen.append(index)
    return chosen
