"""Hundreds of clients at once against `bge-rerank serve` in a process of its own, and the same passages in process.

    python -m tests.soak.serve_load --clients 500 --requests 2000

Every client sends its requests one after the other on a connection of its own. Every answer is compared with what the
scorer gives in this process. Printed: answers, the times in which half and 99 of 100 came, passages a second of both,
and their ratio. Exit status 1 if an answer is missing or wrong. The clients take their part of the cores: the ratio is
that of the server on a machine that it shares with 500 clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bge_rerank_integrations import load_scorer
from tests.soak.overload import WORDS

CLOSE = 1e-4
Ranking = list[tuple[int, float]]


@dataclass(frozen=True)
class Question:
    """A request, ready to be sent."""

    query: str
    texts: list[str]
    body: bytes


@dataclass
class Tally:
    """What came back, for each question by its place, and how long it took."""

    answers: dict[int, Ranking] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    total: float = 0.0


def questions(count: int, texts: int) -> list[Question]:
    draw = random.Random(0)
    made = []
    for i in range(count):
        query = " ".join(draw.choices(WORDS, k=8))
        passages = [f"{i} {j} " + " ".join(draw.choices(WORDS, k=draw.randint(20, 120))) for j in range(texts)]
        made.append(
            Question(query, passages, json.dumps({"query": query, "texts": passages, "raw_scores": True}).encode())
        )
    return made


Ask = Callable[[Question], Awaitable[Ranking]]


async def ask_all(asked: Sequence[Question], clients: int, connect: Callable[[], Awaitable[Ask]]) -> Tally:
    """Each client takes the next question as soon as it has its answer."""
    tally = Tally()
    left = iter(enumerate(asked))

    async def client() -> None:
        ask = await connect()
        for place, question in left:
            started = time.monotonic()
            try:
                tally.answers[place] = await ask(question)
            except Exception as error:  # noqa: BLE001 - whatever it is, an answer is lost, and that is what is counted
                tally.faults.append(repr(error))
            tally.seconds.append(time.monotonic() - started)

    started = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    tally.total = time.monotonic() - started
    return tally


async def over_http(port: int) -> Ask:
    """One connection, with as little work as a client can do: the cores are the server's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(question: Question) -> Ranking:
        head = f"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: {len(question.body)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + question.body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        (length,) = (int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        body = await reader.readexactly(length)
        if lines[0].split()[1] != "200":
            raise RuntimeError(f"{lines[0]}: {body[:200]!r}")
        return [(one["index"], one["score"]) for one in json.loads(body)]

    return ask


def same(ours: Ranking, theirs: Ranking) -> bool:
    """The same texts with the same scores; texts whose scores differ by less than rounding may change places."""
    mine = dict(ours)
    return mine.keys() == dict(theirs).keys() and all(
        abs(mine[index] - score) < CLOSE and abs(ours[place][1] - score) < CLOSE
        for place, (index, score) in enumerate(theirs)
    )


def show(name: str, tally: Tally, passages: int) -> float:
    cuts = statistics.quantiles(tally.seconds, n=100)
    rate = passages / tally.total
    print(
        f"{name}: {len(tally.answers)} answers in {tally.total:.1f} s, p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, "
        f"{rate:.0f} passages a second",
        flush=True,
    )
    return rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--texts", type=int, default=12, help="of each request")
    given = parser.parse_args()
    asked = questions(given.requests, given.texts)
    passages = given.requests * given.texts

    with load_scorer(given.model) as scorer:
        scorer.score(asked[0].query, asked[0].texts)

        async def in_process() -> Ask:
            async def ask(question: Question) -> Ranking:
                return [(one.index, one.score) for one in await scorer.arank(question.query, question.texts)]

            return ask

        ours = asyncio.run(ask_all(asked, given.clients, in_process))
    own = show("in process", ours, passages)

    words = [sys.executable, "-m", "bge_rerank_integrations", "serve", given.model, "--port", "0", "--timeout", "600"]
    server = subprocess.Popen([*words, "--no-access-log"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split()[2].rsplit(":", 1)[1])

        async def connect() -> Ask:
            return await over_http(port)

        async def ready() -> None:
            ask = await connect()
            while True:
                try:
                    await ask(asked[0])
                except RuntimeError:
                    await asyncio.sleep(0.1)
                else:
                    return

        asyncio.run(ready())
        theirs = asyncio.run(ask_all(asked, given.clients, connect))
    finally:
        server.terminate()
        server.wait()
    rate = show(f"{given.clients} clients", theirs, passages)
    lost = given.requests - len(theirs.answers)
    wrong = [place for place, answer in theirs.answers.items() if not same(ours.answers[place], answer)]
    print(f"lost {lost}, wrong {len(wrong)}, {100 * rate / own:.0f}% of the rate in process; {theirs.faults[:3]}")
    return 1 if lost or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
