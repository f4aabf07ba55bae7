"""What is timed: pairs as in real use, made of real text (the Python language reference)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from bge_rerank_integrations.bench.busy import check_count
from bge_rerank_integrations.corpus import language_reference
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.ranking import Pair

LONGEST = 480  # tokens of query and passage together: below 512, where no peer cuts


class Source:
    """Texts of wanted lengths."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._random = random.Random(seed)
        self._words = [word for passage in language_reference() for word in passage.text.split() if word.isascii()]

    def text(self, shortest: int, longest: int) -> str:
        """A text with between `shortest` and `longest` tokens.

        As in real passages, twice the length is half as likely: as many have 10 to 20 tokens as have 100 to 200.
        """
        wanted = round(math.exp(self._random.uniform(math.log(shortest), math.log(longest))))
        start = self._random.randrange(len(self._words) - wanted)
        text = " ".join(self._words[start : start + wanted])
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= wanted else text[: offsets[wanted][0]].rstrip()

    def pairs(self, queries: int, passages: int, query: tuple[int, int], passage: tuple[int, int]) -> Iterator[Pair]:
        for _ in range(queries):
            asked = self.text(*query)
            for _ in range(passages):
                yield asked, self.text(*passage)


WORKLOADS: dict[str, Callable[[Source, float], list[Pair]]] = {
    "mixed": lambda source, scale: list(source.pairs(1, _some(100, scale), (6, 16), (8, LONGEST - 16))),
    "many": lambda source, scale: list(source.pairs(_some(20, scale), 20, (6, 16), (20, 200))),
    "long": lambda source, scale: list(source.pairs(_some(5, scale), 20, (3, 6), (LONGEST - 80, LONGEST - 6))),
    "single": lambda source, scale: list(source.pairs(1, 1, (8, 8), (120, 120))),
}
"""mixed: one query with 100 passages of 8 to 464 tokens, 112 on average; many: 20 queries with 20 passages each; long:
short queries with 20 long passages each; single: one pair, for latency. A scale below 1 takes a part of each."""


def _some(count: int, scale: float) -> int:
    return max(1, round(count * scale))


@dataclass(frozen=True)
class Plan:
    """What is timed, and how often.

    Raises:
        OptionError: a value is impossible.
    """

    workloads: tuple[str, ...]
    """Names of `WORKLOADS`."""
    rounds: int = 8
    scale: float = 1.0
    """Part of each workload to take, up to 1."""
    beside: int = 0
    """Busy processes: everything is timed without and beside them."""

    def __post_init__(self) -> None:
        for name in self.workloads:
            if name not in WORKLOADS:
                raise OptionError(f"workload {name!r}: use {', '.join(WORKLOADS)}")
        if self.rounds < 1 or not 0 < self.scale <= 1:
            raise OptionError(
                f"rounds={self.rounds}, scale={self.scale}: use at least 1 round, and a scale above 0 and up to 1"
            )
        check_count(self.beside)
