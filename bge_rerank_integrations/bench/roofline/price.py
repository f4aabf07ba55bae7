"""What the kernels of a trace take, if each runs as fast as the card's peaks allow."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from bge_rerank_integrations.bench.roofline.cards import Card
from bge_rerank_integrations.bench.roofline.trace import Kernel, Trace

PART_OF_PEAK = {"products": 0.85, "attention": 0.6}
"""What good kernels reach of the card's FLOP per second."""
FLOOR = 2e-6
"""Seconds that a kernel takes on the device, however little it does."""
LAUNCH = 9e-6
"""Seconds of the host to launch a kernel."""


@dataclass(frozen=True)
class Price:
    """Estimated seconds of one forward pass."""

    by_kind: dict[str, float]
    """On the device."""
    launches: int
    flops: float

    @property
    def device(self) -> float:
        return sum(self.by_kind.values())

    @property
    def host(self) -> float:
        return self.launches * LAUNCH

    @property
    def seconds(self) -> float:
        """Launches and kernels overlap, so that the slower of both counts."""
        return max(self.device, self.host)


def price(trace: Trace, card: Card) -> Price:
    by_kind: dict[str, float] = defaultdict(float)
    for kernel in trace.kernels:
        by_kind[kernel.kind] += seconds(kernel, card)
    return Price(
        dict(by_kind),
        sum(kernel.launches for kernel in trace.kernels),
        sum(kernel.flops for kernel in trace.kernels),
    )


def seconds(kernel: Kernel, card: Card) -> float:
    """The slowest of arithmetic, memory and launching counts."""
    arithmetic = kernel.flops / (PART_OF_PEAK.get(kernel.kind, 1.0) * card.tflops * 1e12)
    memory = kernel.moved / (card.tb_s * 1e12)
    return max(arithmetic, memory, FLOOR) + FLOOR * (kernel.launches - 1)
