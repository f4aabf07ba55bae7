"""Ray Serve on this machine, for one test file or script."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

LONG = 120.0
"""Seconds: more than anything in a test takes."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def serving(cpus: int) -> Iterator[str]:
    """The address of its proxy; it and Ray end with the block.

    Args:
        cpus: what Ray believes the machine has.
    """
    import ray
    from ray import serve

    port = free_port()
    with mock.patch.dict(os.environ, {"RAY_USAGE_STATS_ENABLED": "0"}):
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield f"http://127.0.0.1:{port}"
            serve.shutdown()
        finally:
            ray.shutdown()


def with_options(application: Any, **options: Any) -> Any:
    """The application, its deployment changed as `deployments:` of a serve.yaml does."""
    deployment = application._bound_deployment
    return deployment.options(**options).bind(*deployment.init_args)


def running(application: str) -> int:
    """How many replicas take requests."""
    from ray import serve

    (deployment,) = serve.status().applications[application].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)


def wait_until(true: Callable[[], object], what: str) -> None:
    """Return once it is true; AssertionError after a long time."""
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end, f"not in {LONG} s: {what}"
        time.sleep(0.05)  # between two looks at what another process does
