"""When a call must be done, and what it raises when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from threading import TIMEOUT_MAX

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.errors import QueueFull, Timeout


class Deadline:
    """The end of one call's time, counted from when this is made."""

    def __init__(self, engine: Engine, timeout: float | None) -> None:
        """
        Args:
            timeout: seconds; None: no end.
        """
        self._engine = engine
        self._timeout = timeout
        self._end = None if self._timeout is None else time.monotonic() + self._timeout

    @property
    def remaining(self) -> float | None:
        """Seconds left; None: no end."""
        return None if self._end is None else max(0.0, min(self._end - time.monotonic(), TIMEOUT_MAX))

    def check(self) -> None:
        """Raise `Timeout` if no time is left."""
        if self.remaining == 0:
            with self.or_timeout():
                raise FutureTimeoutError

    @contextmanager
    def or_queue_full(self) -> Iterator[None]:
        """Wait for room in the queue: a timeout inside becomes `QueueFull`."""
        try:
            yield
        except (FutureTimeoutError, asyncio.TimeoutError) as error:
            raise QueueFull(
                f"queue full: {self._engine.queued_tokens} of {self._engine.settings.max_queued_tokens} tokens after "
                f"{self._timeout} s: send less at once, or raise max_queued_tokens or timeout"
            ) from error

    @contextmanager
    def or_timeout(self) -> Iterator[None]:
        """Wait for scores: a timeout inside becomes `Timeout`."""
        try:
            yield
        except (FutureTimeoutError, asyncio.TimeoutError) as error:
            raise Timeout(
                f"not scored within {self._timeout} s; {self._engine.queued_tokens} tokens are waiting: send less at "
                "once, or raise timeout"
            ) from error
