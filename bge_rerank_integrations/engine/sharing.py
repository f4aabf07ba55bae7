"""Which way a little work is quicker: split among a device's workers, or done by one of them with all cores.

Work for all workers is always split: batches side by side wait for nothing. Less than that leaves cores idle, unless
each operation is done by all of them, which then wait for each other. Whether that pays depends on the processor, the
model, the lengths, and on who else uses the machine. So it is measured as requests come, and what was slower is tried
again from time to time.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from enum import Enum
from statistics import median
from typing import NamedTuple

SAMPLES = 3
"""How many times each way is tried first; later the median of so many of the latest decides."""
RETRY = 30
"""The slower way is tried again after so many times its cost was spent on the quicker one: it costs 3% at most."""


class Way(Enum):
    """How work is computed."""

    SPLIT = "side by side"
    """Each worker has some of the sequences, and one core."""
    WHOLE = "all cores"
    """One worker has all of the sequences, and all cores."""


class Choice(NamedTuple):
    """A way, for work of a certain size."""

    way: Way
    size: int
    """The logarithm of the tokens that one worker has to compute after each other."""


class Sharing:
    """Chooses the way for little work by what each took before."""

    def __init__(self) -> None:
        self._rates: dict[Choice, deque[float]] = defaultdict(lambda: deque(maxlen=SAMPLES))
        """Seconds for each token."""
        self._spent: dict[Choice, float] = defaultdict(float)
        """Seconds that the other way was given since this one was tried."""

    def choose(self, lengths: Sequence[int]) -> Choice:
        """How to compute what waits.

        Args:
            lengths: tokens of each sequence; there are fewer of them than workers.
        """
        tokens = _tokens(lengths)
        choices = [Choice(way, count.bit_length()) for way, count in tokens.items()]
        seldom = min(choices, key=lambda choice: len(self._rates[choice]))
        if len(self._rates[seldom]) < SAMPLES:
            return seldom
        costs = {choice: median(self._rates[choice]) * tokens[choice.way] for choice in choices}
        quick, slow = sorted(choices, key=lambda choice: costs[choice])
        if self._spent[slow] > RETRY * costs[slow]:
            self._spent[slow] = 0.0
            return slow
        self._spent[slow] += costs[quick]
        return quick

    def measured(self, choice: Choice, tokens: int, seconds: float) -> None:
        """Learn what one worker took for so many tokens."""
        self._rates[choice].append(seconds / tokens)


class Always(Sharing):
    """One way, whatever it costs: so that both can be timed beside what `Sharing` chooses."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    def choose(self, lengths: Sequence[int]) -> Choice:
        """As `Sharing.choose`."""
        return Choice(self._way, _tokens(lengths)[self._way].bit_length())


def _tokens(lengths: Sequence[int]) -> dict[Way, int]:
    """What one worker has to compute after each other."""
    return {Way.WHOLE: sum(lengths), Way.SPLIT: max(lengths)}
