"""The user's hook in a thread of its own: it may block, raise or call the scorer, and no caller waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from bge_rerank_integrations.stats import Batch, Counters

MOST_WAITING = 1024
"""Reports that may wait for a slow hook. Beyond that the oldest is dropped, and counted."""


class Hook:
    """Calls a function with each report, in order. The thread starts with the first report."""

    def __init__(self, call: Callable[[Batch], object], counters: Counters) -> None:
        self._call = call
        self._counters = counters
        self._reports: SimpleQueue[Batch | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self, report: Batch) -> None:
        """Queue a report; returns at once."""
        if self._reports.qsize() >= MOST_WAITING:
            with suppress(Empty):
                self._reports.get_nowait()
                self._counters.count_dropped_report()
        self._reports.put(report)
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="bge-rerank-hook", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the process has all the threads it may have: next time, perhaps
                    self._counters.count_hook_error(error)
                else:
                    self._thread = thread

    def close(self, seconds: float) -> None:
        """Let the hook have the reports that wait, and wait for it, but no longer than `seconds`."""
        self._reports.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _work(self) -> None:
        while (report := self._reports.get()) is not None:
            try:
                self._call(report)
            except BaseException as error:  # noqa: BLE001 - a hook that fails must not change anyone's scores
                self._counters.count_hook_error(error)
