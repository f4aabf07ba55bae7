"""One call of a scorer on its way: pairs are tokenized, queued chunk by chunk, and their scores awaited.

The device works on early chunks while later ones are tokenized. Pairs that the model cannot tell apart, since they are
the same after truncation, are scored once: their scores are equal to the last bit, and ties keep their order.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, contextmanager
from queue import Empty, SimpleQueue

from bge_rerank_integrations.engine.deadline import Deadline
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import LayerScores, Recipe, Request, TokenSequence
from bge_rerank_integrations.model.inputs import PairEncoder
from bge_rerank_integrations.protocol import Progress
from bge_rerank_integrations.ranking import Pair

CHUNK = 1024
"""Pairs to queue at a time: enough to fill batches with sequences of similar length."""
PIECE = 64
"""Pairs to tokenize between two looks at the clock, and between two turns of an async caller."""
CHARACTERS = 1 << 18
"""A piece ends before its time with the pair by which it is longer than this."""


class Call:
    """The scores of some pairs, by one recipe. Used once, by one thread or one task."""

    def __init__(
        self, engine: Engine, inputs: PairEncoder, recipe: Recipe, pairs: Sequence[Pair], timeout: float | None
    ) -> None:
        engine.check_open()
        self._engine = engine
        self._inputs = inputs
        self._recipe = recipe
        self._pairs = pairs
        self._deadline = Deadline(engine, timeout)
        self._futures: list[Future[list[LayerScores]]] = []
        """Of the requests, whose sequences are not needed any more once they are scored."""
        self._slots: list[int] = []
        """For each pair tokenized so far, which distinct sequence it is."""
        self._slot_of: dict[bytes, int] = {}
        self._scored: SimpleQueue[list[int]] = SimpleQueue()
        """The slots that got their scores, batch by batch; an empty list where a request is settled."""

    def scores(self, on_progress: Progress | None = None) -> list[LayerScores]:
        """Scores for each pair, in the order given. Progress is told in the caller's own thread."""
        progress = None
        if on_progress is not None:
            progress = _Counter(len(self._pairs), on_progress, self._engine.outside_call)
        with self._engine.call(), self._cancelled_at_last():
            for chunk in self._chunks():
                request = self._submit([sequence for piece in chunk for sequence in self._encode(piece)], progress)
                with self._deadline.or_queue_full():
                    request.admitted.result(self._deadline.remaining)
                if progress is not None:
                    progress.tell(self._slots, list(self._news()))
            if progress is None:
                with self._deadline.or_timeout():
                    for future in self._futures:
                        future.result(self._deadline.remaining)
            else:
                self._watch(progress)
            return self._collect()

    async def ascores(self) -> list[LayerScores]:
        """As `scores`, awaiting: texts are tokenized in one of the engine's threads, scored in another."""
        with self._cancelled_at_last():
            for chunk in self._chunks():
                new: list[TokenSequence] = []
                for piece in chunk:
                    with self._deadline.or_timeout():
                        new += await asyncio.wait_for(self._encoding(piece), self._deadline.remaining)
                request = self._submit(new)
                with self._deadline.or_queue_full():
                    await asyncio.wait_for(asyncio.wrap_future(request.admitted), self._deadline.remaining)
            with self._deadline.or_timeout():
                for future in self._futures:
                    await asyncio.wait_for(asyncio.wrap_future(future), self._deadline.remaining)
            return self._collect()

    def _chunks(self) -> Iterator[list[list[Pair]]]:
        """The pairs, as pieces to tokenize, put together to requests."""
        for start in range(0, len(self._pairs), CHUNK):
            pieces: list[list[Pair]] = [[]]
            characters = 0
            for query, text in self._pairs[start : start + CHUNK]:
                if len(pieces[-1]) == PIECE or characters > CHARACTERS:
                    pieces.append([])
                    characters = 0
                pieces[-1].append((query, text))
                characters += len(query) + len(text)
            yield pieces

    def _encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        """The sequences of a piece that no earlier pair has."""
        self._deadline.check()
        with self._turn():
            started = time.perf_counter()
            sequences = self._inputs.encode(pairs)
        truncated = sum(sequence.truncated for sequence in sequences)
        self._engine.counters.count_pairs(len(pairs), truncated, time.perf_counter() - started)
        new: list[TokenSequence] = []
        for sequence in sequences:
            key = sequence.key
            slot = self._slot_of.get(key)
            if slot is None:
                slot = self._slot_of[key] = len(self._slot_of)
                new.append(sequence)
            self._slots.append(slot)
        return new

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Those who bring many pairs tokenize one piece after the other: together they would slow batches of others."""
        if len(self._pairs) <= PIECE:
            yield
            return
        turn, seconds = self._engine.tokenizing_turn, self._deadline.remaining
        if not turn.acquire(timeout=-1 if seconds is None else seconds):
            with self._deadline.or_timeout():
                raise FutureTimeoutError
        try:
            yield
        finally:
            turn.release()

    def _encoding(self, pairs: Sequence[Pair]) -> asyncio.Future[list[TokenSequence]]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._engine.tokenizing, self._encode, pairs)
        except RuntimeError:  # the threads were ended just now
            self._engine.check_open()
            raise

    def _submit(self, sequences: list[TokenSequence], progress: _Counter | None = None) -> Request:
        request = Request(sequences, self._recipe, caller=self)
        if progress is not None:
            first = len(self._slot_of) - len(request.sequences)
            request.on_scored = lambda indices: self._scored.put([first + index for index in indices])
            request.future.add_done_callback(lambda _: self._scored.put([]))
        self._futures.append(request.future)
        self._engine.submit(request)
        return request

    def _watch(self, progress: _Counter) -> None:
        while not all(future.done() for future in self._futures):
            with self._deadline.or_timeout():
                try:
                    news = self._scored.get(timeout=self._deadline.remaining)
                except Empty:
                    raise FutureTimeoutError from None
            progress.tell(self._slots, news)
            for future in self._futures:
                if future.done():
                    future.result()  # an error ends the call at once
        progress.tell(self._slots, list(self._news()))

    def _news(self) -> Iterator[int]:
        while not self._scored.empty():
            yield from self._scored.get()

    def _collect(self) -> list[LayerScores]:
        distinct = [scores for future in self._futures for scores in future.result()]
        return [distinct[slot] for slot in self._slots]

    @contextmanager
    def _cancelled_at_last(self) -> Iterator[None]:
        try:
            yield
        finally:
            for future in self._futures:  # whatever is left of them, if anything went wrong
                future.cancel()
            self._futures.clear()  # each holds this call: without a ring of references both are free at once


class _Counter:
    """How many of a call's pairs have their scores."""

    def __init__(self, total: int, call: Progress, outside: Callable[[], AbstractContextManager[None]]) -> None:
        """
        Args:
            outside: what to call within, so that it may use the scorer itself.
        """
        self._total = total
        self._call = call
        self._outside = outside
        self._done = 0
        self._seen = 0
        self._finished: set[int] = set()
        self._waiting: Counter[int] = Counter()
        """How many pairs wait for each distinct sequence."""

    def tell(self, slots: Sequence[int], news: Sequence[int]) -> None:
        """Call with the new count, if it has grown.

        Args:
            slots: which distinct sequence each pair is, of the pairs tokenized so far.
            news: distinct sequences that got their scores.
        """
        self._finished.update(news)
        before = self._done
        for slot in slots[self._seen :]:  # tokenized since the last time
            if slot in self._finished:
                self._done += 1
            else:
                self._waiting[slot] += 1
        self._seen = len(slots)
        self._done += sum(self._waiting.pop(slot, 0) for slot in news)
        if self._done > before:
            with self._outside():
                self._call(self._done, self._total)
