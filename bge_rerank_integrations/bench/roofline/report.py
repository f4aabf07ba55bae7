"""Estimates as a table."""

from __future__ import annotations

from collections.abc import Sequence

from bge_rerank_integrations.extras import require

require("cli")

from rich import box
from rich.console import Console
from rich.table import Table

from bge_rerank_integrations.bench.report import print_table
from bge_rerank_integrations.bench.roofline.cards import Card
from bge_rerank_integrations.bench.roofline.estimate import Estimate
from bge_rerank_integrations.bench.roofline.price import FLOOR, LAUNCH, PART_OF_PEAK
from bge_rerank_integrations.terminal import escape

_KINDS = ("products", "attention", "element-wise")


def show(model: str, dtype: str, card: Card, estimates: Sequence[Estimate], console: Console) -> None:
    """Print a row for each workload, and what the estimate assumes."""
    table = Table(
        title=f"{escape(model)} ({dtype}) on {card.name}: an estimate, nothing was measured",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for heading in ("pairs", "batches", "kernels", "launches", "seconds", *_KINDS, "host", "pairs/s", "of peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    for one in estimates:
        table.add_row(
            one.workload,
            f"{one.pairs:,}",
            f"{one.batches:,}",
            f"{one.kernels:,}",
            f"{one.launches:,}",
            f"{one.seconds:.4f}",
            *(f"{one.by_kind.get(kind, 0.0):.4f}" for kind in _KINDS),
            f"{one.host:.4f}",
            f"{one.pairs_per_second:,.0f}",
            f"{one.of_peak:.0%}",
            f"{(one.weights + one.activations) / 1e9:.1f} GB",
        )
    print_table(table, console)
    for line in assumptions(card):
        console.print(line, highlight=False, soft_wrap=True)
    if card.memory_gb is not None:
        for one in estimates:
            if (needed := (one.weights + one.activations) / 1e9) > card.memory_gb:
                console.print(f"[red]{one.workload}[/] needs {needed:.1f} GB, and the card has {card.memory_gb:g}")


def assumptions(card: Card) -> tuple[str, ...]:
    """What the estimate rests on."""
    return (
        f"Assumed: {card.tflops:g} TFLOP/s and {card.tb_s:g} TB/s ({card.origin}); matrix products reach "
        f"{PART_OF_PEAK['products']:.0%} of that, attention {PART_OF_PEAK['attention']:.0%}; a kernel takes at least "
        f"{FLOOR * 1e6:g} us, and {LAUNCH * 1e6:g} us of the host to launch.",
        "seconds: the slower of device and host, batch by batch; tokenizing and the reading of scores are not counted.",
    )
