"""An event loop in a thread of its own: callers with and without a loop share its connections."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class LoopThread:
    """Runs coroutines until it is stopped, dropped, or Python ends."""

    def __init__(self, name: str) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._undo: list[Callable[[], Awaitable[None]]] = []
        self._thread = threading.Thread(target=_run, args=(loop,), name=name, daemon=True)
        self._finalizer = weakref.finalize(self, _stop, loop, self._thread, self._undo)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Answer]) -> Future[Answer]:
        """Begin; cancelling the future cancels the work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def on_stop(self, close: Callable[[], Awaitable[None]]) -> None:
        """Await this in the loop before it ends."""
        self._undo.append(close)

    def stop(self) -> None:
        """End what runs, and the thread. Stopping twice is fine."""
        self._finalizer()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, undo: list[Callable[[], Awaitable[None]]]) -> None:
    async def end() -> None:
        others = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for close in undo:
            await close()

    if thread is threading.current_thread() or not thread.is_alive():
        return
    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
