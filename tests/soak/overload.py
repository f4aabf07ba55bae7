"""Mixed traffic from threads and event loops at twice the throughput that this machine can hold.

    python -m tests.soak.overload --minutes 60

One scorer for each family, each shared by threads, two event loops and both adapters, with random requests. First the
throughput is found, then twice as much is asked for. Every answer is compared with what a single caller gets; refusals
must be `QueueFull` or `Timeout`. Printed each minute: answers, refusals, memory, threads.

Then, for a quarter of the time, single pairs are asked for among callers of 20,000 pairs each, and the table of their
waiting times is printed, which docs/service.md has. Exit status 1 if an answer was wrong by more than 1e-4, or memory
grew.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import QueueFull, Timeout
from bge_rerank_integrations.langchain import BGERerank as Compressor
from bge_rerank_integrations.llama_index import BGERerank as Postprocessor
from tests.conftest import CHECKPOINTS, FAMILIES
from tests.soak import among_bulk

THREADS = 16
PATIENCE = 2.0
"""Seconds that a request may take."""
CLOSE = 1e-4
GROWTH = 64 * 2**20
"""Bytes that memory may grow after the first tenth of the time."""
WORDS = [
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
    "so",
]


@dataclass(frozen=True)
class Question:
    """A request, and the scores that a single caller got."""

    scorer: Scorer
    compressor: Compressor
    postprocessor: Postprocessor
    query: str
    texts: list[str]
    expected: list[float]

    @property
    def by_text(self) -> dict[str, float]:
        return dict(zip(self.texts, self.expected, strict=True))


class Tally:
    """What became of the requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request: its body returns if the answer was right."""
        try:
            yield
        except (QueueFull, Timeout) as refusal:
            outcome = type(refusal).__name__
        except Exception as error:  # noqa: BLE001 - whatever else happens is a fault, and must be seen
            outcome = "fault"
            self.faults.append(repr(error)[:300])
        else:
            outcome = "right"
        with self._lock:
            self.counts[outcome] += 1


def check(expected: dict[str, float], scores: dict[str, float]) -> None:
    wrong = [text for text in expected if abs(expected[text] - scores[text]) > CLOSE]
    if wrong or len(expected) != len(scores):
        raise AssertionError(f"{len(wrong)} of {len(expected)} scores are wrong, such as that of {wrong[:1]}")


def ask(question: Question, way: int) -> None:
    """From a thread, in one of three ways."""
    if way == 0:
        documents = [Document(text) for text in question.texts]
        found = question.compressor.compress_documents(documents, question.query)
        check(question.by_text, {d.page_content: d.metadata["relevance_score"] for d in found})
    elif way == 1:
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in question.texts]
        ordered = question.postprocessor.postprocess_nodes(nodes, query_str=question.query)
        check(question.by_text, {n.get_content(): n.score or 0.0 for n in ordered})
    else:
        scores = question.scorer.score(question.query, question.texts)
        check(question.by_text, dict(zip(question.texts, scores, strict=True)))


async def aask(question: Question, way: int) -> None:
    """From an event loop."""
    if way == 0:
        documents = [Document(text) for text in question.texts]
        found = await question.compressor.acompress_documents(documents, question.query)
        check(question.by_text, {d.page_content: d.metadata["relevance_score"] for d in found})
    elif way == 1:
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in question.texts]
        ordered = await question.postprocessor.apostprocess_nodes(nodes, query_str=question.query)
        check(question.by_text, {n.get_content(): n.score or 0.0 for n in ordered})
    else:
        scores = await question.scorer.ascore(question.query, question.texts)
        check(question.by_text, dict(zip(question.texts, scores, strict=True)))


def from_thread(questions: list[Question], tally: Tally, end: threading.Event, seed: int) -> None:
    """Requests one after the other, without a pause."""
    draw = random.Random(seed)
    while not end.is_set():
        with tally.request():
            ask(draw.choice(questions), draw.randrange(3))


def from_loop(questions: list[Question], tally: Tally, end: threading.Event, seed: int, rate: float) -> None:
    """Requests at a rate, whether or not those before are answered; one in twenty is given up on at once."""
    draw = random.Random(seed)

    async def one() -> None:
        with tally.request():
            await aask(draw.choice(questions), draw.randrange(3))

    async def run() -> None:
        tasks: set[asyncio.Task[None]] = set()
        next_one = time.monotonic()
        while not end.is_set():
            next_one = max(next_one + 1 / rate, time.monotonic() - 1)
            task = asyncio.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if draw.random() < 0.05:
                asyncio.get_running_loop().call_later(draw.random() / 10, task.cancel)
            await asyncio.sleep(max(0.0, next_one - time.monotonic()))
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def make(stack: ExitStack, count: int) -> list[Question]:
    draw = random.Random(0)
    questions = []
    for family in FAMILIES:
        cached = 500 if family == "encoder" else 0
        scorer = stack.enter_context(
            load_scorer(
                CHECKPOINTS / family, devices="cpu", timeout=PATIENCE, max_queued_tokens=20_000, cache_size=cached
            )
        )
        compressor = Compressor(scorer=scorer, model=family, top_n=None)
        postprocessor = Postprocessor(scorer=scorer, model=family, top_n=None)
        for i in range(count):
            texts = [
                f"{i} {j} " + " ".join(draw.choices(WORDS, k=draw.randint(1, 60))) for j in range(draw.randint(1, 30))
            ]
            query = " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))
            questions.append(Question(scorer, compressor, postprocessor, query, texts, scorer.score(query, texts)))
    return questions


def capacity(questions: list[Question], seconds: float) -> float:
    """Requests a second that the threads alone get answered."""
    tally, end = Tally(), threading.Event()
    threads = [threading.Thread(target=from_thread, args=(questions, tally, end, i)) for i in range(THREADS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    end.wait(seconds)
    end.set()
    for thread in threads:
        thread.join()
    return tally.counts["right"] / (time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    minutes: float = parser.parse_args().minutes
    with ExitStack() as stack:
        questions = make(stack, 100)
        held = capacity(questions, 15)
        print(f"holds {held:.0f} requests a second; {2 * held:.0f} are asked for", flush=True)
        tally, end = Tally(), threading.Event()
        loops = [
            threading.Thread(target=from_loop, args=(questions, tally, end, i, held * 0.9)) for i in range(2)
        ]  # and the threads ask for as much as they are answered: a fifth of what can be held, or more
        threads = [threading.Thread(target=from_thread, args=(questions, tally, end, i)) for i in range(THREADS)]
        for thread in (*loops, *threads):
            thread.start()
        started = time.monotonic()
        settled: tuple[int, int] | None = None
        readings: list[int] = []
        while (passed := time.monotonic() - started) < 60 * minutes:
            end.wait(min(60.0, 6 * minutes))
            memory, alive = resident(), threading.active_count()
            if passed >= 6 * minutes:
                settled = settled or (memory, alive)
                readings.append(memory)
            waiting = [question.scorer.stats().queued_tokens for question in questions[::100]]
            print(
                f"{passed / 60:5.1f} min  {dict(tally.counts)}  {memory / 2**20:.0f} MB  {alive} threads  "
                f"waiting tokens {waiting}",
                flush=True,
            )
        end.set()
        for thread in (*loops, *threads):
            thread.join()
        asked = sum(tally.counts.values()) / (time.monotonic() - started)
        time.sleep(1)
        # cached scores may come from another batch, and differ in the last digits
        calm = [q.scorer.score(q.query, q.texts) == pytest.approx(q.expected, abs=CLOSE) for q in questions]
        print(f"asked {asked:.0f} requests a second; afterwards {sum(calm)} of {len(calm)} answers are as before")
    assert settled is not None
    growth = sorted(readings)[len(readings) // 2 :][0] - settled[0]
    print(f"memory grew by {growth / 2**20:.1f} MB; {tally.faults[:5]}")
    wrong = tally.counts["fault"] or growth > GROWTH or not tally.counts["right"] or not all(calm)
    return 1 if among_bulk.run(minutes / 4) or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
