"""`serve`: the application on a port, until a signal ends it."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import uvicorn

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.serve.app import create_app
from bge_rerank_integrations.serve.models import Loader
from bge_rerank_integrations.serve.settings import ServerSettings

BACKLOG = 2_048
"""Connections that may wait to be accepted."""
AFTER_GRACE = 10
"""Seconds, after what waited has been refused, for the batch that runs and for answers on their way."""


def serve(
    loaders: Mapping[str, Loader],
    settings: ServerSettings,
    *,
    host: str,
    port: int,
    grace: float,
    say: Callable[[str], object],
) -> None:
    """Serve until SIGINT or SIGTERM. Then no connection is accepted any more, and requests under way are finished;
    those that still wait after `grace` seconds are refused with 503.

    Args:
        loaders: for each name, what makes its scorer.
        port: 0: a free one.
        say: told the address once the port is open, and what to beware of.

    Raises:
        OptionError: the host is unknown, or the port in use.
        Exception: what `loaders` raised first.
    """
    failures: list[Exception] = []
    made: list[ScorerProtocol] = []

    def watched(load: Loader) -> Loader:
        """A model that cannot be loaded ends the server: whoever started it is to know, and may start it again."""

        def run() -> ScorerProtocol:
            try:
                scorer = load()
            except Exception as error:
                failures.append(error)
                server.should_exit = True
                raise
            made.append(scorer)
            return scorer

        return run

    def refuse_what_waits() -> None:
        for scorer in made:
            scorer.close()

    app = create_app({name: watched(load) for name, load in loaders.items()}, settings)
    with listen(host, port) as opened:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=round(grace + AFTER_GRACE),
        )
        server = _Server(config, grace, refuse_what_waits)
        shown = f"[{host}]" if ":" in host else host
        say(f"Listening on http://{shown}:{opened.getsockname()[1]} and loading {', '.join(loaders)}")
        if not is_loopback(host):
            who = "whoever has the key" if settings.api_key else "everyone, since there is no API key,"
            say(f"Beware: on {host}, {who} can reach it from other machines, and texts travel unencrypted")
        # uvicorn raises the signals once more when it is done: they have done their work
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            server.run(sockets=[opened])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """uvicorn's, with an end to what waits."""

    def __init__(self, config: uvicorn.Config, grace: float, refuse_what_waits: Callable[[], object]) -> None:
        super().__init__(config)
        self._grace = grace
        self._refuse_what_waits = refuse_what_waits

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            timer = threading.Timer(self._grace, self._refuse_what_waits)  # closing waits for a batch: not in the loop
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """The open port.

    Raises:
        OptionError: it is in use, not allowed, or the host is not this machine's.
    """
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        errno = getattr(error, "errno", None) or 0
        reason = os.strerror(errno) if errno > 0 else str(error)
        raise OptionError(
            f"cannot listen on port {port} of {host} ({reason}): use another port (0: a free one) or another host"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def named(models: list[str]) -> dict[str, str]:
    """What each of `NAME=MODEL` or `MODEL` is called, and which model it is. A folder's path stays the server's own.

    Raises:
        OptionError: two have one name, or a part is empty.
    """
    found: dict[str, str] = {}
    for given in models:
        name, equals, model = given.partition("=")
        if not equals or Path(given).exists():
            model = given
            name = Path(given).resolve().name if Path(given).is_dir() else given
        if not name or not model:
            raise OptionError(f"{given!r}: give MODEL or NAME=MODEL")
        if name in found:
            raise OptionError(f"two models are called {name!r}: give one of them another name, such as other={model}")
        found[name] = model
    return found
