"""`load_scorer`: from a name to a scorer. `resolve` finds checkpoint, family, devices and dtype, without loading."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import torch

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.fastest import fastest
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.cores import usable_cores
from bge_rerank_integrations.model.devices import candidates, choose_devices, choose_dtype, dtype_name
from bge_rerank_integrations.model.families import family_class, find_family
from bge_rerank_integrations.model.families.base import Family
from bge_rerank_integrations.model.hub import find_checkpoint
from bge_rerank_integrations.model.replica import Replica
from bge_rerank_integrations.options import (
    FASTEST,
    Device,
    Dtype,
    EngineSettings,
    HeadIndex,
    ModelSource,
    Placement,
    Scale,
    ScoringOptions,
    ServerSource,
    names,
    not_by_default,
    pick,
)
from bge_rerank_integrations.remote.dialects import DIALECTS
from bge_rerank_integrations.scorer import Core, Scorer
from bge_rerank_integrations.stats import Batch

HUBS = ("huggingface.co", "hf.co", "hf-mirror.com", "modelscope.cn")
"""Whose pages people copy where a hub id is wanted."""


def load_scorer(
    model: str | os.PathLike[str],
    *,
    family: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    dialect: str | None = None,
    served_model: str | None = None,
    api_key: str | None = None,
    concurrency: int = 8,
    devices: Device | Sequence[Device] | None = None,
    dtype: Dtype = "auto",
    max_length: int = 512,
    query_max_length: int | None = None,
    scale: Scale = "logit",
    query_instruction: str | None = None,
    passage_instruction: str | None = None,
    prompt: str | None = None,
    cutoff_layer: int | None = None,
    compress_ratio: int = 1,
    compress_layers: int | Sequence[int] = (8,),
    head_index: HeadIndex = "position",
    attention_softcap: bool = False,
    token_budget: int | None = None,
    max_queued_tokens: int = 4_000_000,
    timeout: float | None = None,
    cache_size: int = 0,
    on_batch: Callable[[Batch], object] | None = None,
) -> Scorer:
    """Load a BGE reranker.

    Args:
        model: a hub id such as "BAAI/bge-reranker-v2-m3", a local folder, or one of the demonstration models that come
            with this package (small, English, for trying things out only): "demo" (encoder), "demo-layerwise" or
            "demo-lightweight". Or the address of a server, "http://...": a `remote.scorer.RemoteScorer` is returned
            then, which has the methods of `protocol.ScorerProtocol`.
        family: "encoder", "llm", "layerwise", "lightweight" or "classifier"; None: read from the checkpoint itself.
        revision, cache_dir, local_files_only: for the hub, as in `huggingface_hub.snapshot_download`.
        token: for private and gated models; None: the one in `HF_TOKEN` or of `hf auth login`. It is neither shown nor
            pickled.
        dialect, served_model, api_key, concurrency: for a server, see `options.ServerSource`. Of the other options only
            `scale` and `timeout` can be chosen then, and with dialect "bge-rerank" what its requests can set; the rest
            is set at the server.
        devices: such as "cpu" or "cuda:0", or a list of them, for one copy of the model on each; None: the first GPU,
            or the CPU if there is none. 0 is "cuda:0", and a `torch.device` is taken too.
        dtype: "float32", "float16", "bfloat16", or torch's own; "auto": float32 on the CPU, half precision on a GPU.
            Faster on the CPU, with close but not equal scores: "bfloat16" on a CPU with AMX (slower on others), and
            "int8": the layers' matrix products in eight-bit integers. "fastest": the model is loaded in each dtype that
            may pay, and takes the one that scores a few sentences fastest, if their rank correlation with float32 is
            0.999 or more. A log message says which, `Scorer.dtype` has it, and copies of the scorer keep it.
        token_budget: tokens in a batch at most; None: chosen for the device.
        max_queued_tokens: tokens that may wait; a call for which there is no room waits until there is.
        timeout: seconds a call may take, waiting included; then `QueueFull` or `Timeout`. None: no limit.
        cache_size: scores to keep in memory; the least recently used is dropped first. 0: none.
        on_batch: called after each batch with a `stats.Batch`, in a thread of its own, for metrics.

    The other arguments are the fields of `options.ScoringOptions`, which documents them; `Scorer.with_options`
    changes them.

    Raises:
        CheckpointError: the folder, or a file in it, cannot be used. Nothing in it is ever executed.
        HubError: the model could not be fetched from the hub, and is not in its cache.
        DeviceError: a device does not exist here.
        OptionError: an option is unknown, out of range or of another family.
    """
    given = dict(locals())  # every argument by its name, for the groups of `options`
    if is_address(model):
        return _connect(given)  # type: ignore[no-any-return]  # it has the methods of the protocol, see above
    server = pick(ServerSource, given)
    if server != ServerSource():
        raise OptionError(
            f"model={model!r} is not the address of a server, which begins with http:// or https://: leave out "
            f"{', '.join(names(ServerSource))}"
        )
    source, placement, options = pick(ModelSource, given), pick(Placement, given), pick(ScoringOptions, given)
    if placement.dtype == FASTEST:
        plain = EngineSettings(token_budget=token_budget)

        def load(dtype: str) -> Scorer:
            return _load(source, replace(placement, dtype=dtype), plain, options)

        found = fastest(load, candidates(choose_devices(placement.devices)))
        placement = replace(placement, dtype=found)
    return _load(source, placement, pick(EngineSettings, given), options)


def is_address(model: object) -> bool:
    """Whether a model is asked of a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))


def _connect(given: Mapping[str, Any]) -> Any:
    """A scorer by a server. Options that it cannot have are refused, rather than left without effect."""
    server, options, settings = pick(ServerSource, given), pick(ScoringOptions, given), pick(EngineSettings, given)
    if server.dialect is None:
        page = urlsplit(given["model"])
        if str(page.hostname).removeprefix("www.") in HUBS:
            name = "/".join(page.path.removeprefix("/models").split("/")[1:3])
            raise OptionError(f"model is a page of a hub: give the hub id alone, {name!r}, or a folder")
        raise OptionError("model is the address of a server: say what it speaks, such as dialect='tei'")
    sent = DIALECTS[server.dialect].options if server.dialect in DIALECTS else ()
    own = ("model", "timeout", "scale", *sent)
    groups = (pick(ModelSource, given), pick(Placement, given), settings, options)
    set_too = [name for group in groups for name in not_by_default(group) if name not in own]
    if set_too:
        raise OptionError(
            f"{', '.join(set_too)} cannot be chosen from here, since model is the address of a server: what it reads, "
            "and how it scores, is set there"
        )
    from bge_rerank_integrations.remote.scorer import RemoteScorer

    return RemoteScorer(
        given["model"],
        dialect=server.dialect,
        api_key=server.api_key,
        served_model=server.served_model,
        concurrency=server.concurrency,
        timeout=settings.timeout,
        **asdict(options),
    )


@dataclass(frozen=True)
class Resolved:
    """A model that is found, but not loaded."""

    family: Family
    devices: list[torch.device]
    dtype: torch.dtype

    @property
    def checkpoint(self) -> Checkpoint:
        return self.family.checkpoint


def resolve(source: ModelSource, placement: Placement) -> Resolved:
    """Find devices and dtype on this machine, the checkpoint (fetched if necessary) and its family.

    Reads no weights. Raises as `load_scorer`.
    """
    devices = choose_devices(placement.devices)
    dtype = choose_dtype(placement.dtype, devices)
    checkpoint = find_checkpoint(source)
    kind = find_family(checkpoint) if source.family is None else family_class(source.family)
    return Resolved(kind(checkpoint), devices, dtype)


def _load(source: ModelSource, placement: Placement, settings: EngineSettings, options: ScoringOptions) -> Scorer:
    found = resolve(source, placement)
    found.family.check(options)
    found.family.check_dtype(found.dtype)
    depth = found.family.recipe(options).depth(found.family.dimensions.layers)
    with ExitStack() as undo:
        abandoned = Event()
        undo.callback(abandoned.set)
        on_cpus = [device for device in found.devices if device.type == "cpu"]
        cores = max(1, usable_cores() // max(1, len(on_cpus)))
        makers = [
            partial(Replica, found.family, device, found.dtype, cores, depth, abandoned) for device in found.devices
        ]
        engine = Engine(makers, settings)
        undo.callback(engine.close)
        reload = partial(_load, source, placement, settings)
        scorer = Scorer(Core(found.family, engine, dtype_name(found.dtype), reload), options)
        undo.pop_all()
    return scorer
