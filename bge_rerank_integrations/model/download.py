"""From a hub id to a folder: fetched, or from the hub's cache, in bounded time; else with the reason why not.

huggingface_hub puts no limit on most of what it asks, so it works in a thread of its own here, and whoever waits for it
looks whether anything arrives.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bge_rerank_integrations.errors import CheckpointError, HubError
from bge_rerank_integrations.model.hub_reasons import Stalled, address_of, one_line, reason_of
from bge_rerank_integrations.options import ModelSource

COMMIT = re.compile("[0-9a-f]{40}")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Hub:
    """Where to ask, and how long to wait."""

    endpoint: str
    offline: bool
    answer: float
    """Seconds within which it must have answered the first question: does it have the model?"""
    pause: float
    """Seconds that a download may bring nothing."""

    @classmethod
    def of_environment(cls) -> Hub:
        """As `HF_ENDPOINT`, `HF_HUB_OFFLINE` and the hub's two variables for timeouts say."""
        from huggingface_hub import constants

        return cls(
            endpoint=constants.ENDPOINT,
            offline=constants.HF_HUB_OFFLINE,
            answer=constants.HF_HUB_ETAG_TIMEOUT,
            pause=6 * constants.HF_HUB_DOWNLOAD_TIMEOUT,  # so that the library can try a stalled one again
        )


def download(source: ModelSource, name: str, wanted: Sequence[str], hub: Hub | None = None) -> Path:
    """The folder of a model's files in the hub's cache, fetched if the cache lacks them.

    Args:
        wanted: patterns of the files to fetch.
        hub: None: as the environment says.

    Raises:
        CheckpointError: the name is not a hub id.
        HubError: neither the hub nor its cache has the model; the message has the reason.
    """
    from huggingface_hub.errors import HFValidationError, RevisionNotFoundError

    hub = hub or Hub.of_environment()
    if source.local_files_only or hub.offline:
        return _offline(source, name, wanted)
    address = address_of(hub.endpoint)
    before = _commit(source, name)
    try:
        return _fetch(source, name, wanted, hub)
    except HFValidationError as error:
        raise CheckpointError(f"{name} is not a folder here and not a hub id: {one_line(error)}") from error
    except Exception as error:  # whatever it is, the hub did not deliver
        reason = f"{address} {reason_of(error, source.revision)}"
        cached = None if isinstance(error, RevisionNotFoundError) else _cached(source, name, wanted, before)
        if cached is None:
            raise HubError(
                f"{name} could not be fetched: {reason}. Or fetch it elsewhere with `hf download {name}` and give its "
                "folder or cache_dir"
            ) from error
    warnings.warn(
        f"{name} is taken from the hub's cache, perhaps an older version: {reason}", UserWarning, stacklevel=2
    )
    return cached


def _fetch(source: ModelSource, name: str, wanted: Sequence[str], hub: Hub) -> Path:
    """Ask the hub; raises whatever the library does, or `Stalled`."""
    from huggingface_hub import HfApi, snapshot_download

    if not COMMIT.fullmatch(source.revision or ""):  # a commit never changes: nothing is asked if the cache has it
        api = HfApi(endpoint=hub.endpoint, token=source.token)
        _run(partial(api.model_info, name, revision=source.revision, timeout=hub.answer), hub.answer)
    fetch = partial(
        snapshot_download,
        name,
        revision=source.revision,
        cache_dir=_cache_dir(source),
        allow_patterns=list(wanted),
        endpoint=hub.endpoint,
        token=source.token,
        etag_timeout=hub.answer,
    )
    return Path(_run(fetch, hub.pause, partial(_contents, _folder(source, name))))


def _run(work: Callable[[], Result], seconds: float, signs: Callable[[], object] = lambda: None) -> Result:
    """Do work in a thread, and give up on it when its signs have not changed for this long."""
    future: Future[Result] = Future()
    threading.Thread(target=_settle, args=(future, work), name="bge-rerank-hub", daemon=True).start()
    seen = signs()
    while not wait([future], seconds).done:
        last, seen = seen, signs()
        if last == seen:
            raise Stalled(f"brought nothing for {seconds:g} s")
    return future.result()


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)


def _contents(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Every file with its size and time, partly downloaded ones included."""
    found = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it was moved meanwhile
                status = os.stat(os.path.join(parent, name))
                found.add((os.path.join(parent, name), status.st_size, status.st_mtime_ns))
    return frozenset(found)


def _offline(source: ModelSource, name: str, wanted: Sequence[str]) -> Path:
    from huggingface_hub import constants

    cached = _cached(source, name, wanted)
    if cached is None:
        setting = "local_files_only" if source.local_files_only else "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE)"
        cache = _cache_dir(source) or constants.HF_HUB_CACHE
        raise HubError(
            f"{name} is not in the hub's cache ({cache}), or only a part of it, and {setting} is set, so that "
            f"the hub is not asked: unset that, or fetch the model elsewhere with `hf download {name}` and give its "
            "folder or cache_dir"
        )
    return cached


def _cached(source: ModelSource, name: str, wanted: Sequence[str], commit: str | None = None) -> Path | None:
    """What the cache has of a revision, or of a commit of it; None: nothing, or only a part."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            name,
            revision=commit or source.revision,
            cache_dir=_cache_dir(source),
            allow_patterns=list(wanted),
            local_files_only=True,
        )
    except HFValidationError as error:
        raise CheckpointError(f"{name} is not a folder here and not a hub id: {one_line(error)}") from error
    except OSError:
        return None
    return Path(folder)


def _commit(source: ModelSource, name: str) -> str | None:
    """The commit that the cache has of this revision now: a download that fails half-way has already moved on."""
    try:
        return (_folder(source, name) / "refs" / (source.revision or "main")).read_text(
            encoding="utf-8"
        ).strip() or None
    except (OSError, ValueError):
        return None


def _cache_dir(source: ModelSource) -> str | None:
    return None if source.cache_dir is None else str(Path(source.cache_dir).expanduser())


def _folder(source: ModelSource, name: str) -> Path:
    """Where the cache keeps a model."""
    from huggingface_hub import constants

    return Path(_cache_dir(source) or constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
