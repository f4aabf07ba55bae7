"""GPUs: what they can do at most."""

from __future__ import annotations

from dataclasses import dataclass

from bge_rerank_integrations.errors import OptionError


@dataclass(frozen=True)
class Card:
    """A GPU's peaks."""

    name: str
    tflops: float
    """10^12 multiplications and additions of bfloat16 a second, in products of dense matrices."""
    tb_s: float
    """10^12 bytes a second that its memory moves."""
    memory_gb: float | None
    """10^9 bytes of its memory; None: not given."""
    origin: str
    """Where the figures are from."""


_SHEET = "the vendor's data sheet"
CARDS = {
    "h100": Card("NVIDIA H100 SXM", 790, 3.0, 80, "seen on one"),
    "h200": Card("NVIDIA H200 SXM", 989, 4.8, 141, _SHEET),
    "a100": Card("NVIDIA A100 SXM 80 GB", 312, 2.039, 80, _SHEET),
    "l4": Card("NVIDIA L4", 121, 0.3, 24, _SHEET),
    "4090": Card("NVIDIA GeForce RTX 4090", 165.2, 1.008, 24, _SHEET),
}
"""By the name that the command takes. A data sheet's figures are seldom reached: those of an H100 are 989 and 3.35."""


def card(named: str) -> Card:
    """A card of the table, or one of one's own: "tflops=790,tb_s=3.0".

    Raises:
        OptionError: it is neither.
    """
    if found := CARDS.get(named.lower()):
        return found
    given: dict[str, float] = {}
    for part in named.split(","):
        key, _, number = part.partition("=")
        try:
            given[key.strip()] = float(number)
        except ValueError:
            given.clear()
            break
    if given.keys() != {"tflops", "tb_s"} or not all(0 < number < 1e6 for number in given.values()):
        raise OptionError(
            f"--roofline {named!r}: use {', '.join(CARDS)}, or figures of your own, such as tflops=790,tb_s=3.0"
        )
    return Card(named, given["tflops"], given["tb_s"], None, "as given")


def card_of(device: str) -> Card | None:
    """The card that a driver calls by this name, such as "NVIDIA H100 80GB HBM3"; None: it is not in the table."""
    words = device.lower().split()
    return next((found for name, found in CARDS.items() if any(word.split("-")[0] == name for word in words)), None)
