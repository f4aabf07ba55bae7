"""Processes that keep cores busy, so that everything can be timed beside them too."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from bge_rerank_integrations.errors import OptionError

MOST = 256
"""A benchmark beside more processes than this measures the machine's memory rather than its cores."""


class BusyProcesses:
    """Processes that compute while they are told to, in loops of Python, and wait without using a core otherwise.

    Each ends when it is closed, and by itself when the process that started it is gone, however that ended: the other
    end of its pipe is closed then.
    """

    def __init__(self, count: int) -> None:
        """
        Args:
            count: how many, 0 or more.

        Raises:
            OptionError: the count is impossible.
            ChildProcessError: a process did not start.
        """
        check_count(count)
        self.seconds = 0.0
        """CPU seconds that they have computed, together."""
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        context = multiprocessing.get_context("spawn")
        try:
            for _ in range(count):
                ours, its = context.Pipe()
                self._pipes.append(ours)
                with its:
                    process = context.Process(target=compute, args=(its,), daemon=True)
                    self._processes.append(process)
                    process.start()
            for pipe in self._pipes:
                _answer(pipe)  # it has started
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [process.pid for process in self._processes if process.pid is not None]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """They compute inside the `with` block. It begins when all do, and ends when all have stopped.

        Raises:
            ChildProcessError: one has ended, so that what was timed was not timed beside all of them.
        """
        before = self._tell(True)
        try:
            yield
        finally:
            self.seconds += self._tell(False) - before

    def _tell(self, wanted: bool) -> float:
        """The CPU seconds that they have used until now, together."""
        try:
            for pipe in self._pipes:
                pipe.send(wanted)
        except OSError as error:
            raise _ended() from error
        return sum(map(_answer, self._pipes))

    def close(self) -> None:
        """End them. May be called twice."""
        for process in self._processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []


def check_count(count: int) -> None:
    """Refuse an impossible number of processes."""
    if not 0 <= count <= MOST:
        raise OptionError(f"beside={count}: use a number of busy processes from 0 to {MOST}")


def _answer(pipe: Connection) -> float:
    try:
        seconds: float = pipe.recv()
    except (EOFError, OSError) as error:
        raise _ended() from error
    return seconds


def _ended() -> ChildProcessError:
    return ChildProcessError("a busy process has ended: what was timed is worth nothing. Free memory, and start again")


def compute(orders: Connection) -> None:
    """What each process does: it computes, or waits, as ordered, and answers with the CPU seconds used until then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too: the benchmark ends it
    try:
        orders.send(time.process_time())
        wanted = False
        while True:
            if not wanted or orders.poll():
                wanted = orders.recv()
                orders.send(time.process_time())
            for _ in range(100_000 if wanted else 0):
                pass
    except (EOFError, OSError):
        return  # the benchmark is gone
