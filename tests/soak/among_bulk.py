"""How long one pair waits among callers of 20,000 pairs each, who ask again as soon as they are answered.

python -m tests.soak.among_bulk --minutes 15
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import ClosedError

BULK_CALLERS, BULK_PAIRS = 8, 20_000
SMALL_CALLERS = 4
CLOSE = 1e-4
SHARES = (0.5, 0.9, 0.99, 0.999)
WORDS = (
    "passages",
    "order",
    "of",
    "what",
    "is",
    "asked",
    "depends",
    "and",
    "how",
    "well",
    "each",
    "answers",
    "it",
    "or",
)


@dataclass
class Waits:
    """Of the requests of one pair."""

    seconds: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    """That ran from asking to the answer."""
    batch_seconds: float = 0.0
    """How long one batch took, on average."""
    bulk_pairs: int = 0
    """Scored meanwhile for the others."""
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """In Markdown, as docs/service.md has it."""
        seconds, batches = sorted(self.seconds), sorted(self.batches)
        rows = [
            f"{len(seconds):,} requests of one pair among {BULK_CALLERS} callers of {BULK_PAIRS:,} pairs each; a batch "
            f"takes {self.batch_seconds * 1000:.1f} ms",
            "",
            "| Requests | answered within | in batch times | in batches |",
            "| --- | --- | --- | --- |",
        ]
        for share in SHARES:
            at = min(len(seconds) - 1, int(share * len(seconds)))
            times = seconds[at] / self.batch_seconds
            rows.append(f"| {share:.1%} | {seconds[at] * 1000:.0f} ms | {times:.1f} | {batches[at]} |")
        return "\n".join(rows)


def measure(scorer: Scorer, minutes: float) -> Waits:
    """Let both kinds of callers ask for so many minutes. Nothing may go wrong, and every score must be right."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(10, 60))) for _ in range(BULK_PAIRS)]
    small = [(f"query {i}", text) for i, text in enumerate(texts[:200])]
    expected = scorer.score_pairs(small)
    waits, end = Waits(), threading.Event()
    lock = threading.Lock()

    def bulk(number: int) -> None:
        own = random.Random(number).sample(texts, BULK_PAIRS)
        while not end.is_set():
            try:
                scores = scorer.score(f"bulk {number}", own)
            except ClosedError:
                return
            with lock:
                waits.bulk_pairs += len(scores)

    def ask(number: int) -> None:
        mine = random.Random(number)
        while not end.wait(mine.random() * 0.2):  # whenever it likes, not when the last one was answered
            which = mine.randrange(len(small))
            before, started = scorer.stats().batches, time.perf_counter()
            (score,) = scorer.score_pairs([small[which]])
            seconds, batches = time.perf_counter() - started, scorer.stats().batches - before
            with lock:
                waits.seconds.append(seconds)
                waits.batches.append(batches)
                if abs(score - expected[which]) > CLOSE:
                    waits.faults.append(f"{small[which]}: {score}, not {expected[which]}")

    callers = [threading.Thread(target=bulk, args=(i,), daemon=True) for i in range(BULK_CALLERS)]
    askers = [threading.Thread(target=ask, args=(i,)) for i in range(SMALL_CALLERS)]
    for caller in callers:
        caller.start()
    while scorer.stats().queued_requests < BULK_CALLERS:  # until all are at it
        time.sleep(0.1)
    before = scorer.stats()
    for asker in askers:
        asker.start()
    time.sleep(60 * minutes)
    after = scorer.stats()
    end.set()
    for asker in askers:
        asker.join()
    waits.batch_seconds = (after.seconds_forward - before.seconds_forward) / (after.batches - before.batches)
    scorer.close()  # the bulk callers are told
    for caller in callers:
        caller.join()
    return waits


def run(minutes: float, model: str = "demo") -> int:
    """Measure, print the table, and return the exit status: 1 if a score was wrong."""
    waits = measure(load_scorer(model, devices="cpu"), minutes)
    print(waits.table(), flush=True)
    print(f"{waits.bulk_pairs:,} pairs of the others were scored; {waits.faults[:5]}", flush=True)
    return 1 if waits.faults or not waits.seconds else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--model", default="demo")
    given = parser.parse_args(words)
    return run(given.minutes, given.model)


if __name__ == "__main__":
    sys.exit(main())
