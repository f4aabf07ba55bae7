"""A server on a port of this machine, in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from bge_rerank_integrations.serve.run import listen


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address, while it serves."""
    with listen("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([opened],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}"  # connections wait until they are accepted
        finally:
            server.should_exit = True
            thread.join()
