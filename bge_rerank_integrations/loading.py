"""From a name to a scorer: folder or hub -> family -> build -> strict load, on the right device in the right dtype."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import nn

from bge_rerank_integrations.engine.engine import Engine, EngineSettings
from bge_rerank_integrations.engine.queue import Row
from bge_rerank_integrations.errors import CheckpointError, DeviceError, HubError, OptionError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import family_class, find_family
from bge_rerank_integrations.model.families.base import Family, Recipe, RerankModel
from bge_rerank_integrations.model.nn.decoder import DecoderShape
from bge_rerank_integrations.model.nn.encoder import EncoderShape
from bge_rerank_integrations.model.nn.int8 import Int8Linear, check_int8
from bge_rerank_integrations.model.nn.linear import replace_linears
from bge_rerank_integrations.model.nn.onednn import PackedLinear, can_pack, round_up
from bge_rerank_integrations.model.packing import TokenSequence, pack
from bge_rerank_integrations.model.weights import load_weights
from bge_rerank_integrations.options import HeadIndex, Scale, ScoringOptions
from bge_rerank_integrations.scorer import Core, Scorer
from bge_rerank_integrations.stats import Batch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
HUB_FILES = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
]
EMBEDDED = ("demo", "demo-layerwise", "demo-lightweight")
"""The demonstration models that come with this package, by the names of their folders in demo/models."""
CPU_TOKEN_BUDGET = 2048
"""Measured: half and twice as many are up to 7% slower."""
CUDA_TOKEN_BUDGET = 32768
"""At most; less where memory is scarce, see `affordable_tokens`."""


def load_scorer(
    model: str | os.PathLike[str],
    *,
    family: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    devices: str | Sequence[str] | None = None,
    dtype: str = "auto",
    max_length: int = 512,
    query_max_length: int | None = None,
    scale: Scale = "logit",
    query_instruction: str | None = None,
    passage_instruction: str | None = None,
    prompt: str | None = None,
    cutoff_layer: int | None = None,
    compress_ratio: int = 1,
    compress_layers: Sequence[int] = (8,),
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
            "demo-lightweight".
        family: "encoder", "llm", "layerwise" or "lightweight"; None: read from the checkpoint itself.
        revision, cache_dir, local_files_only: for the hub, as in `huggingface_hub.snapshot_download`.
        devices: such as "cpu" or "cuda:0", or a list of them for one replica on each; None: the first GPU, else
            the CPU.
        dtype: "float32", "float16", "bfloat16"; "auto": float32 on the CPU, half precision on a GPU. Faster on the CPU,
            with close but not the same scores: "bfloat16" where it has AMX (elsewhere slower), and "int8", the layers'
            matrix products in eight-bit integers.
        token_budget: tokens a batch may hold; None: chosen for the device.
        max_queued_tokens: tokens that may wait; a call beyond that waits outside until there is room.
        timeout: seconds a call may take, waiting included; beyond, `QueueFull` or `Timeout`. None: as long as it takes.
        cache_size: scores to remember in memory, the least recently used dropped first; 0: none.
        on_batch: called by the worker after each batch with a `stats.Batch`, for metrics and traces.

    The other arguments are the fields of `options.ScoringOptions`, which documents them; `Scorer.with_options`
    changes them.

    Raises:
        CheckpointError: the folder or a file in it cannot be used; nothing in it is ever executed.
        HubError: the hub or its cache did not deliver.
        DeviceError: a device does not exist here.
        OptionError: an option is unknown, out of range or of another family.
    """
    options = ScoringOptions(
        max_length=max_length,
        query_max_length=query_max_length,
        scale=scale,
        query_instruction=query_instruction,
        passage_instruction=passage_instruction,
        prompt=prompt,
        cutoff_layer=cutoff_layer,
        compress_ratio=compress_ratio,
        compress_layers=compress_layers,
        head_index=head_index,
        attention_softcap=attention_softcap,
    )
    chosen = choose_devices(devices)
    wanted = choose_dtype(dtype, chosen)
    settings = EngineSettings(
        token_budget=token_budget,
        max_queued_tokens=max_queued_tokens,
        timeout=timeout,
        cache_size=cache_size,
        on_batch=on_batch,
    )
    checkpoint = find_checkpoint(model, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
    kind = find_family(checkpoint) if family is None else family_class(family)
    found = kind(checkpoint)
    found.check(options)
    depth = found.recipe(options).depth(found.layers)
    with ExitStack() as undo:
        abandoned = Event()
        undo.callback(abandoned.set)
        engine = Engine([partial(Replica, found, device, wanted, depth, abandoned) for device in chosen], settings)
        undo.callback(engine.close)
        reload = partial(
            load_scorer,
            model,
            family=family,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            devices=devices,
            dtype=dtype,
            token_budget=token_budget,
            max_queued_tokens=max_queued_tokens,
            timeout=timeout,
            cache_size=cache_size,
            on_batch=on_batch,
        )
        scorer = Scorer(Core(found, engine, str(wanted).removeprefix("torch."), reload), options)
        undo.pop_all()
    return scorer


class Replica:
    """One copy of the model on one device, used by one thread."""

    def __init__(self, family: Family, device: torch.device, dtype: torch.dtype, depth: int, abandoned: Event) -> None:
        """
        Args:
            depth: how many layers to load; the rest follow when a recipe needs them.
            abandoned: set when nobody waits for the model any more; loading then stops at the next tensor.
        """
        self._abandoned = abandoned
        self.family = family
        self.device = device
        self.dtype = dtype
        self._load(depth)

    def _load(self, depth: int) -> None:
        self.family.check_tensors()
        if self.dtype is torch.int8:
            check_int8()
        self.depth = 0
        self.model: RerankModel | None = None  # frees a shallower one first
        with torch.device("meta"):
            model = self.family.build(depth)
        stored = torch.float32 if self.dtype is torch.int8 else self.dtype
        model = model.to(stored).to_empty(device=self.device).eval().requires_grad_(False)
        load_weights(self.family.checkpoint, model.targets(), model.ignored, self._abandoned)
        self._round_up = self._speed_up(model.get_submodule("stack.layers"))
        self.model, self.depth = model, depth

    def _speed_up(self, layers: nn.Module) -> Callable[[int], int] | None:
        """Replace the layers' products by the fastest for device and dtype; returns which numbers of rows suit them."""
        if self.dtype is torch.int8:
            replace_linears(layers, Int8Linear)
        elif self.device.type == "cpu" and self.dtype is torch.float32 and can_pack():
            replace_linears(layers, PackedLinear)
        else:
            return None
        return round_up

    @torch.inference_mode()
    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[Row]:
        if (depth := recipe.depth(self.family.layers)) > self.depth:
            self._load(depth)
        assert self.model is not None
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            scores = self.model.score(pack(sequences, self.device, self._round_up), recipe)
            rows: list[Row] = scores[: len(sequences)].float().tolist()
        return rows

    def token_budget(self) -> int:
        """How many tokens to take at once, now that the weights are loaded."""
        if self.device.type != "cuda":
            return CPU_TOKEN_BUDGET
        assert self.model is not None
        shape = self.model.get_submodule("stack").shape
        assert isinstance(shape, EncoderShape | DecoderShape)
        free, _ = torch.cuda.mem_get_info(self.device)
        return affordable_tokens(free, shape.width, shape.feed_forward, self.dtype.itemsize)

    def close(self) -> None:
        self.model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def affordable_tokens(free: int, width: int, feed_forward: int, itemsize: int) -> int:
    """Tokens whose activations fill half of a GPU's free memory, within bounds.

    A layer holds about eight states of `width` for each token (the stream, its norm, queries, keys, values, what
    attention gives, and copies) and three of `feed_forward`. If it is too many after all, the engine halves it.

    Args:
        free: bytes.
        itemsize: bytes a number.
    """
    return max(2048, min(CUDA_TOKEN_BUDGET, free // 2 // (itemsize * (8 * width + 3 * feed_forward))))


def find_checkpoint(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """A checkpoint: in the folder given, this package's own, or from the hub or its cache."""
    if not isinstance(model, (str, os.PathLike)) or not str(model):
        raise TypeError(f"model={model!r}: give a hub id, a folder or one of {', '.join(EMBEDDED)}")
    if model in EMBEDDED:
        return Checkpoint(Path(str(files("bge_rerank_integrations") / "demo" / "models" / str(model))))
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Checkpoint(folder)
    name = str(model)
    if folder.exists():
        raise CheckpointError(f"{name} is a file: give the folder that holds it")
    if isinstance(model, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name:
        raise CheckpointError(f"{name} is no folder here, and no hub id, which has the form 'owner/name'")
    return Checkpoint(_from_hub(name, revision, cache_dir, local_files_only))


def _from_hub(
    name: str, revision: str | None, cache_dir: str | os.PathLike[str] | None, local_files_only: bool
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=None if cache_dir is None else str(cache_dir),
            local_files_only=local_files_only,
            allow_patterns=HUB_FILES,
        )
    except HFValidationError as error:
        raise CheckpointError(f"{name} is no folder here and no hub id: {error}") from error
    except LocalEntryNotFoundError as error:
        reason = "local_files_only is set" if local_files_only else "the hub cannot be reached"
        raise HubError(
            f"{name} is not in the hub's cache ({cache_dir or 'the default one'}) and {reason}: connect, or fetch it "
            f"elsewhere with `hf download {name}` and give its folder or cache_dir"
        ) from error
    except HfHubHTTPError as error:
        raise HubError(
            f"the hub refused {name} at revision {revision or 'main'}: {error}. "
            "Check the name, the revision and your token"
        ) from error
    except OSError as error:
        raise HubError(
            f"{name} could not be fetched: {error}. Check the connection and the disk, then try again"
        ) from error
    return Path(folder)


def choose_devices(devices: str | Sequence[str] | None) -> list[torch.device]:
    """Where to put the model; one device unless several are named, and never one that is not there."""
    if devices is None:
        return [torch.device("cuda:0" if torch.cuda.is_available() else "cpu")]
    names: Sequence[Any] = [devices] if isinstance(devices, (str, torch.device)) else devices
    if not names:
        raise DeviceError("devices is empty: name at least one, such as 'cpu' or 'cuda:0', or use None")
    return [_device(name) for name in names]


def _device(name: Any) -> torch.device:
    if not isinstance(name, (str, torch.device)):
        raise DeviceError(f"device {name!r}: use a name such as 'cpu' or 'cuda:0'")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r}: use a name such as 'cpu' or 'cuda:0'") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        device = torch.device("cuda", device.index or 0)
        if device.index >= count:
            known = ", ".join(f"cuda:{i}" for i in range(count)) or "no CUDA device"
            raise DeviceError(f"device {str(name)!r} does not exist: this machine has {known}; 'cpu' always works")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError(f"device {str(name)!r} does not exist on this machine: 'cpu' always works")
    elif device.type != "cpu":
        raise DeviceError(f"device {str(name)!r} is not supported: use 'cpu', 'cuda:N' or 'mps'")
    return device


def choose_dtype(dtype: str, devices: Sequence[torch.device]) -> torch.dtype:
    """The dtype asked for; "auto": half precision on GPUs, float32 elsewhere, where half is slower on most machines."""
    if dtype == "auto":
        if all(device.type == "cuda" for device in devices):
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float32
    if dtype not in DTYPES:
        raise OptionError(f"dtype={dtype!r}: use 'auto', {', '.join(map(repr, DTYPES))}")
    if dtype == "int8" and (elsewhere := [str(device) for device in devices if device.type != "cpu"]):
        raise OptionError(f"dtype='int8' runs on the CPU, not on {', '.join(elsewhere)}: use 'auto' there")
    return DTYPES[dtype]
