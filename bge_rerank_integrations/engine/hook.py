"""The user's hook in a thread of its own: it may block, raise or call the scorer, and no caller waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from bge_rerank_integrations.stats import Batch, Counters

MOST_WAITING = 1024
"""Reports that may wait for a slow hook. Beyond that the oldest is dropped, and counted."""


class Hook:
    """Calls a function with each report, in order. The thread starts with the first report."""

    def __init__(self, call: Callable[[Batch], object], counters: Counters) -> None:
        self._call = call
        self._counters = counters
        self._reports: deque[Batch | None] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __call__(self, report: Batch | None) -> None:
        """Queue a report; returns at once. None ends the thread after the reports before it."""
        with self._changed:
            if len(self._reports) >= MOST_WAITING:
                self._reports.popleft()
                self._counters.count_dropped_report()
            self._reports.append(report)
            self._changed.notify()
            if self._thread is None and report is not None:
                thread = threading.Thread(target=self._work, name="bge-rerank-hook", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the process has all the threads it may have: next time, perhaps
                    self._counters.count_hook_error(error)
                else:
                    self._thread = thread

    def close(self, seconds: float) -> None:
        """Let the hook have the reports that wait, and wait for it, but no longer than `seconds`."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self(None)
            thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._reports)
                report = self._reports.popleft()
            if report is None:
                return
            try:
                self._call(report)
            except BaseException as error:  # noqa: BLE001 - a hook that fails must not change anyone's scores
                self._counters.count_hook_error(error)
