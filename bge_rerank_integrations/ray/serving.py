"""`serve_app`: the HTTP application of `bge_rerank_integrations.serve` as a deployment of Ray Serve.

Every replica can serve every model of the application. Requests that it has at the same time share batches in the
engine of the model they name, so Ray batches nothing.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bge_rerank_integrations.dataset.runner import Model
from bge_rerank_integrations.errors import ClosedError, OptionError
from bge_rerank_integrations.options import API_KEY_VARIABLE, whole_number

if TYPE_CHECKING:
    from fastapi import FastAPI

    from bge_rerank_integrations.serve import ServerSettings

NAME = "rerank"
AHEAD = 4
"""Requests that a replica takes, for each that it is meant to have: more replicas take time to come."""
MAX_QUEUED = 1_024
"""Requests that wait in a proxy for a replica; one more is answered 429."""
RETRY_AFTER = 1
"""Seconds, with that answer."""
DRAIN_SECONDS = 30
"""For requests under way when a replica goes."""
LOAD_ATTEMPTS = 3
"""How often a model that cannot be loaded is tried, before the deployment has failed."""


def serve_app(
    models: Mapping[str, str | Mapping[str, Any]],
    *,
    models_per_replica: int | None = None,
    min_replicas: int = 1,
    max_replicas: int = 1,
    target_ongoing_requests: float = 32,
    gpus_per_replica: float = 0,
    cpus_per_replica: float = 1,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """The HTTP application of `bge_rerank_integrations.serve`, for `ray.serve.run`.

    If clients are to send an API key, each replica must find it in its environment as BGE_RERANK_API_KEY.

    Args:
        models: for each name that the `model` of a request may be, a hub id or a folder, or arguments of `load_scorer`:
            `{"deep": {"model": "BAAI/bge-reranker-v2.5-gemma2-lightweight", "cutoff_layer": 28}}`. The first is meant
            where a request names none.
        models_per_replica: models that a replica has loaded at a time, the first ones to begin with; the one that was
            not used for the longest time makes room. None: all of them. A request comes to a replica that has its
            model if it names it in the header `serve-multiplexed-model-id` as well, as our remote scorer does.
        min_replicas: replicas that are always there; 0: the first request waits until one has loaded.
        max_replicas: replicas under load.
        target_ongoing_requests: requests for each replica, above which Ray adds replicas and below which it removes
            them. A replica takes up to four times as many; 1,024 more wait in each of Ray's proxies.
        gpus_per_replica: GPUs that Ray reserves for each, such as 1 or 0.5. With two or more, each has every model.
        cpus_per_replica: CPUs that Ray reserves for each; PyTorch uses as many.
        settings: fields of `ServerSettings` besides `api_key`, such as `{"max_texts": 100}`.

    Returns:
        A `ray.serve.Application`.

    Raises:
        OptionError: a value is impossible, or an option unknown.
    """
    from ray import serve

    if (whole_number(max_replicas) or 0) < 1:
        raise OptionError(f"max_replicas={max_replicas!r}: use a whole number of 1 or more")
    if whole_number(min_replicas) is None or not 0 <= min_replicas <= max_replicas:
        raise OptionError(f"min_replicas={min_replicas!r}: use a whole number from 0 to max_replicas={max_replicas}")
    if not _at_least(0, target_ongoing_requests) or target_ongoing_requests == 0:
        raise OptionError(f"target_ongoing_requests={target_ongoing_requests!r}: use a number above 0")
    named = _named(models)
    if models_per_replica is not None and (whole_number(models_per_replica) or 0) < 1:
        raise OptionError(f"models_per_replica={models_per_replica!r}: use a whole number of 1 or more (None: all)")
    for name, value in (("gpus_per_replica", gpus_per_replica), ("cpus_per_replica", cpus_per_replica)):
        if not _at_least(0, value):
            raise OptionError(f"{name}={value!r}: use 0 or more, such as 0.5 or 1")
        if value > 1 and value != int(value):
            raise OptionError(f"{name}={value!r}: use a whole number above 1, as Ray asks for")
    deployed = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": cpus_per_replica, "num_gpus": gpus_per_replica},
        autoscaling_config={
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_ongoing_requests": target_ongoing_requests,
        },
        max_ongoing_requests=math.ceil(AHEAD * target_ongoing_requests),
        max_queued_requests=MAX_QUEUED,
        backpressure_config={"status_code": 429, "retry_after_s": RETRY_AFTER},
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        max_constructor_retry_count=LOAD_ATTEMPTS,
    )
    devices = [f"cuda:{index}" for index in range(int(gpus_per_replica))] if gpus_per_replica >= 2 else None
    most = len(named) if models_per_replica is None else models_per_replica
    return deployed(serve.ingress()(Replica)).bind(
        named, most, devices, _settings({} if settings is None else settings)
    )


def build_app(arguments: dict[str, Any]) -> Any:
    """`serve_app(**arguments)`, as `import_path` of a serve.yaml, whose `args` they are.

    Raises:
        OptionError: an argument is missing, unknown or impossible.
    """
    known = list(inspect.signature(serve_app).parameters)
    for name in arguments:
        if name not in known:
            raise OptionError(f"args: unknown argument {name!r}: use {', '.join(known)}")
    if "models" not in arguments:
        raise OptionError("args: no models: give names and models, such as models: {quick: BAAI/bge-reranker-v2-m3}")
    return serve_app(**arguments)


class Replica:
    """What each replica is: models, and the application over them."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, models: Mapping[str, Model], most: int, devices: list[str] | None, settings: ServerSettings
    ) -> None:
        """Load models: Ray sends no request before that. Raises as `load_scorer`.

        Args:
            most: how many models may be loaded at a time.
        """
        from bge_rerank_integrations.ray.models import Multiplexed

        self._settings = settings
        self._models = Multiplexed(models, most, devices)
        try:
            await self._models.preload()
        except BaseException:
            self._models.close()
            raise

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What `ray.serve.ingress` asks for."""
        from bge_rerank_integrations.serve import create_app

        return create_app(self._models, replace(self._settings, api_key=os.environ.get(API_KEY_VARIABLE)))

    def check_health(self) -> None:
        """What Ray asks for regularly; it replaces a replica for which this raises.

        Raises:
            ClosedError: a scorer was closed, and will never score again.
        """
        from bge_rerank_integrations.serve.models import State

        closed = [name for name, state in self._models.states.items() if state is State.CLOSED]
        if closed:
            raise ClosedError(f"{', '.join(closed)}: the scorer was closed; this replica must be replaced")

    def __del__(self) -> None:
        """Close the scorers; Ray calls it when no request is under way any more."""
        self._models.close()


def _at_least(least: float, value: object) -> bool:
    """Whether it is a finite number, and that large."""
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= least


def _named(models: Mapping[str, str | Mapping[str, Any]]) -> dict[str, Model]:
    if not isinstance(models, Mapping) or not models:
        raise OptionError(f"models={models!r}: give names and models, such as {{'quick': 'BAAI/bge-reranker-v2-m3'}}")
    found: dict[str, Model] = {}
    for name, given in models.items():
        arguments = dict(given) if isinstance(given, Mapping) else {"model": given}
        if not isinstance(arguments.get("model"), str):
            raise OptionError(f"models: {name!r} is {given!r}: give a hub id or a folder, alone or as its 'model'")
        found[name] = Model(arguments.pop("model"), arguments)
    return found


def _settings(given: Mapping[str, Any]) -> ServerSettings:
    from bge_rerank_integrations.serve import ServerSettings

    if not isinstance(given, Mapping):
        raise OptionError(f"settings={given!r}: give names and values, such as {{'max_texts': 100}}")
    known = [name for name in ServerSettings.__dataclass_fields__ if name != "api_key"]
    if "api_key" in given:
        raise OptionError(
            f"settings: Ray would store an api_key: set {API_KEY_VARIABLE} in the environment of the replicas instead"
        )
    for name in given:
        if name not in known:
            raise OptionError(f"settings: unknown setting {name!r}: use {', '.join(known)}")
    return ServerSettings(**given)
