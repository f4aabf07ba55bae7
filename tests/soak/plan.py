"""What a number of pairs takes on devices that nobody has measured: an estimate from stated assumptions.

    python -m tests.soak.plan --pairs 1e9 --tokens 132 --flops 3e14 --devices 16

The operations of a pair are those of `bench/cost.py`, for a pair of so many tokens and all layers. `--flops` is what a
device reaches of them in a second: the assumption on which everything depends. Measure your own device and replace it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bge_rerank_integrations.bench.cost import needed_flops
from bge_rerank_integrations.bench.shapes import SHAPES
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import family_class
from bge_rerank_integrations.model.families.base import Dimensions

COLUMNS = ("Model", "10⁹ operations of a pair", "pairs a second", "device hours", "hours", "MB/s to read")


@dataclass(frozen=True)
class Assumptions:
    """What the plan is made from."""

    pairs: float
    tokens: int
    """Of a pair."""
    bytes: int
    """Of a row, as it is read."""
    flops: float
    """Operations a second that a device reaches."""
    devices: int


def dimensions(model: str) -> Dimensions:
    """Of a published model."""
    family, config = SHAPES[model]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"rms_norm_eps": 1e-6, **config}))
        return family_class(family)(Checkpoint(Path(folder))).dimensions


def row(model: str, assumed: Assumptions) -> list[str]:
    """A model's line of the table."""
    operations = needed_flops(dimensions(model), [assumed.tokens])
    rate = assumed.flops / operations
    hours = assumed.pairs / rate / 3600
    return [
        model,
        f"{operations / 1e9:,.0f}",
        f"{rate:,.3g}" if rate < 10 else f"{rate:,.0f}",
        f"{hours:,.0f}",
        f"{hours / assumed.devices:,.1f}",
        f"{rate * assumed.devices * assumed.bytes / 1e6:,.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Hours for many pairs, estimated.")
    parser.add_argument("--pairs", type=float, default=1e9)
    parser.add_argument("--tokens", type=int, default=132, help="of a pair")
    parser.add_argument("--bytes", type=int, default=560, help="of a row")
    parser.add_argument("--flops", type=float, default=3e14, help="operations a second that a device reaches")
    parser.add_argument("--devices", type=int, default=16)
    assumed = Assumptions(**vars(parser.parse_args()))
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *(row(model, assumed) for model in SHAPES)]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
