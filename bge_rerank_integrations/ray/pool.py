"""A pool of Ray actors: where they run, and which of them takes a block."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bge_rerank_integrations.dataset.runner import AT_ONCE, Model, Outcome, Runner, Watch
from bge_rerank_integrations.errors import OptionError, WorkerError
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.ray.actor import ScoringActor

RETRIES = 3
"""How often a block is given again to an actor that died with it; the actor itself is always started again."""
SECONDS_TO_ANSWER = 10
STATISTICS = "RAY_USAGE_STATS_ENABLED"


@dataclass(frozen=True)
class Placing:
    """How many actors there are, and where. The fields are the arguments of `bge_rerank_integrations.ray.score`.

    Raises:
        OptionError: two of them contradict each other, or a value is impossible.
    """

    devices: str | Sequence[str] | None = None
    actors: int | None = None
    gpus_per_actor: float = 0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise OptionError(f"actors={self.actors}: use a whole number of 1 or more")
        if not self.gpus_per_actor >= 0:
            raise OptionError(f"gpus_per_actor={self.gpus_per_actor}: use 0 or more, such as 0.5 or 1")
        if self.devices is not None and self.gpus_per_actor:
            raise OptionError(
                f"devices={self.devices!r} and gpus_per_actor={self.gpus_per_actor} contradict each other: name the "
                "devices of this machine, or let Ray choose GPUs"
            )
        if self.address is not None and self.actors is None:
            raise OptionError(f"address={self.address!r}: say how many actors the cluster shall run with actors")

    def device_of_each(self) -> list[str | None]:
        """For every actor, the device that it is told to take."""
        if self.devices is None:
            return [None] * (self.actors or 1)
        named = [self.devices] if isinstance(self.devices, str) else list(self.devices)
        return [named[index % len(named)] for index in range(self.actors or len(named))]


class ActorPool:
    """Gives each block to the actor that has the fewest."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.capacity = AT_ONCE * len(actors)
        self._actors = actors
        self._under_way: list[set[Future[list[Outcome]]]] = [set() for _ in actors]

    def submit(self, rows: Sequence[list[Pair]]) -> Future[list[Outcome]]:
        waiting = [{future for future in mine if not future.done()} for mine in self._under_way]
        index = min(range(len(waiting)), key=lambda index: len(waiting[index]))
        future: Future[list[Outcome]] = self._actors[index].score.remote(rows).future()
        waiting[index].add(future)
        self._under_way = waiting
        return future


@contextmanager
def actor_pool(model: Model, placing: Placing, watch: Watch) -> Iterator[Runner]:
    """Start actors, and end them afterwards, with the Ray around them if it was started for them.

    Raises:
        WorkerError: Ray has no room for them, or one died again and again.
    """
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    with _joined(placing):
        # No CPU is asked for: where a machine has two, actors that reserve one each leave no room for anything else,
        # and wait without a word. The threads of an actor are its `AT_ONCE` blocks.
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": AT_ONCE}
        options |= {"max_restarts": -1, "max_task_retries": RETRIES}
        if placing.devices is None:
            options |= {"num_gpus": placing.gpus_per_actor}
        else:  # Ray hides all GPUs from actors that reserve none
            options |= {"runtime_env": {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}}
        kind: Any = ray.remote(ScoringActor).options(**options)
        actors = [kind.remote(model, device) for device in placing.device_of_each()]
        try:
            loading = [actor.load.remote() for actor in actors]
            while loading:
                watch("starting actors", len(actors) - len(loading), len(actors))
                ready, loading = ray.wait(loading)
                ray.get(ready)
            yield ActorPool(actors)
        except RayTaskError as error:
            raise error.cause from None  # what happened there, without the frames of Ray
        except RayActorError as error:
            raise WorkerError(
                f"a Ray actor died {RETRIES + 1} times with the same block, perhaps for want of memory (each holds a "
                f"model): use fewer actors or smaller blocks. Ray says: {error}"
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)


@contextmanager
def _joined(placing: Placing) -> Iterator[None]:
    """Use the Ray that this process has, join that of the address, or start one."""
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    before = os.environ.get(STATISTICS)
    os.environ[STATISTICS] = "0"  # for the processes that are started
    try:
        if placing.address is None:
            ray.init(include_dashboard=False, **quiet)
        else:
            _check_answers(placing.address)
            ray.init(address=placing.address, **quiet)
    except OSError as error:
        raise WorkerError(
            f"no Ray answers at {placing.address!r}, or it wants another token: start it with `ray start --head`, and "
            f"give this process the cluster's RAY_AUTH_TOKEN, if it has one. {error}"
        ) from error
    finally:
        if before is None:
            del os.environ[STATISTICS]
        else:
            os.environ[STATISTICS] = before
    try:
        there = ray.cluster_resources().get("GPU", 0)
        wanted = placing.gpus_per_actor * len(placing.device_of_each())
        if placing.address is None and wanted > there:  # a cluster may still grow
            raise WorkerError(f"the actors want {wanted:g} GPUs and this machine has {there:g}: use fewer actors")
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """An OSError where nobody listens at HOST:PORT, for which Ray itself would look for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
