"""The kernels of a forward pass on a GPU, without one: tensors that have shapes, dtypes and a device, but no values.

This needs a torch that is built for CUDA, since only that knows the GPU's operators. No GPU and no driver is used.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from bge_rerank_integrations.engine.work import Recipe, TokenSequence
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.families.base import RerankModel
from bge_rerank_integrations.model.packing import PackedBatch, pack

CUDA = torch.device("cuda", 0)
_PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm")
_ATTENTION = {"_varlen_attn": 2, "_varlen_attn_out": 1}
"""Variable-length attention, and the kernels that each launches: the first fills a state of random numbers as well."""
_PADDED_ATTENTION = "scaled_dot_product"
_LOOKUPS = ("embedding", "index", "index_select", "_embedding_bag_forward_only", "_embedding_bag")
"""Of their first argument, only the rows that are asked for are read."""
_NO_KERNELS = ("empty", "empty_like", "new_empty", "empty_strided", "_unsafe_view", "device", "is_pinned")


@dataclass(frozen=True)
class Kernel:
    """One call of an operator on the GPU."""

    name: str
    kind: str
    """ "products", "attention" or "element-wise", which is all else."""
    flops: float
    """Multiplications and additions of matrix products."""
    moved: int
    """Bytes read and written, each once."""
    launches: int = 1


@dataclass(frozen=True)
class Trace:
    """All kernels of a forward pass, in order."""

    kernels: tuple[Kernel, ...]
    activations: int
    """Bytes that were in use at the same time, at most, without the weights."""
    waits: tuple[str, ...]
    """Operators for which the host waits for the device; the reading of the scores is not traced."""


def check_build() -> None:
    """Raise `OptionError` unless this torch can trace the GPU's path."""
    if torch.version.cuda is None:
        raise OptionError(
            f"--roofline traces what a GPU would run, for which torch must be built for CUDA, and {torch.__version__} "
            "is not: install torch from the package index (several GB; no GPU is needed) into another environment"
        )


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Within, tensors on a GPU can be made and computed with as if there were one; they have no values."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield


def to_fake_gpu(model: nn.Module, dtype: torch.dtype) -> None:
    """Move a model's parameters, which are on the device "meta", to the GPU that is not there."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = torch.empty(parameter.shape, dtype=dtype, device=CUDA)
                module._parameters[name] = nn.Parameter(there, requires_grad=False)


def trace(model: RerankModel, sequences: Sequence[TokenSequence], recipe: Recipe) -> Trace:
    """The kernels of one batch, from its copy to the GPU to its scores.

    Args:
        model: on the fake GPU; the call must be within `fake_gpu`.
    """
    host = pack(sequences, torch.device("cpu"), ratios=model.ratios(recipe))
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    with _Recorder(weights) as recorder:
        batch = host.to(CUDA)
        recorder.lengths = dict(_lengths(batch))
        scores = model.score(batch, recipe)
    assert scores.device == CUDA
    return Trace(tuple(recorder.kernels), recorder.peak, tuple(recorder.waits))


def _lengths(batch: PackedBatch) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The lengths of a batch's layouts, by the identity of the tensor that attention takes them from."""
    for outer in (batch.layout, *(merge.layout for merge in batch.merges)):
        for layout in (outer, outer.context, outer.single):
            yield id(layout.cumulative), layout.lengths


class _Recorder(TorchDispatchMode):
    """Sees every operator before it is run."""

    def __init__(self, weights: Set[int]) -> None:
        """
        Args:
            weights: the identities of storages that are not activations.
        """
        super().__init__()
        self._weights = weights
        self.kernels: list[Kernel] = []
        self.lengths: Mapping[int, tuple[int, ...]] = {}
        self.peak = 0
        self.waits: list[str] = []
        self._live: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if name == "_pin_memory":
            return args[0]  # there is nothing to pin without a driver
        given = list(_tensors((args, kwargs or {})))
        if name in ("_local_scalar_dense", "nonzero", "bincount", "unique_dim", "_unique2", "masked_select"):
            self.waits.append(name)
        out = func(*args, **(kwargs or {}))
        made = list(_tensors(out))
        for tensor in made:
            self._watch(tensor)
        made += _changed(func, args, made)
        if any(tensor.device.type == "cuda" for tensor in made) and not (func.is_view or name in _NO_KERNELS):
            self.kernels.append(self._kernel(name, args, given, made))
        return out

    def _kernel(self, name: str, args: tuple[Any, ...], given: Sequence[Tensor], made: Sequence[Tensor]) -> Kernel:
        read = given[1:] if name in _LOOKUPS else given
        moved = sum(map(_bytes, read)) + sum(map(_bytes, made)) * (2 if name in _LOOKUPS else 1)
        if name in _PRODUCTS:
            left, right = (args[1], args[2]) if name.startswith(("addmm", "baddbmm")) else (args[0], args[1])
            return Kernel(name, "products", 2.0 * left.numel() * right.shape[-1], moved)
        if name in _ATTENTION:
            query, cumulative = (args[1], args[4:6]) if name.endswith("_out") else (args[0], args[3:5])
            causal = args[8 if name.endswith("_out") else 7]
            queries, keys = (self.lengths[id(tensor)] for tensor in cumulative)
            seen = sum(
                count * (length - (count - 1) / 2 if causal else length)
                for count, length in zip(queries, keys, strict=True)
            )
            return Kernel(name, "attention", 4.0 * seen * prod(query.shape[1:]), moved, _ATTENTION[name])
        if _PADDED_ATTENTION in name:
            return Kernel(name, "attention", 4.0 * args[0].numel() * args[1].shape[-2], moved)
        return Kernel(name, "element-wise", 0.0, moved)

    def _watch(self, tensor: Tensor) -> None:
        """Count a tensor's memory from now until it is freed."""
        storage = tensor.untyped_storage()
        identity = storage._cdata
        if tensor.device.type != "cuda" or identity in self._live or identity in self._weights:
            return
        self._live[identity] = storage.nbytes()
        weakref.finalize(storage, self._live.pop, identity, None)
        self.peak = max(self.peak, sum(self._live.values()))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(value.values())
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            yield from _tensors(item)


def _changed(func: Any, args: tuple[Any, ...], made: Sequence[Tensor]) -> list[Tensor]:
    """Arguments that an operator writes to and does not return."""
    returned = {tensor.untyped_storage()._cdata for tensor in made}
    written = (
        value
        for argument, value in zip(func._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor)
    )
    return [tensor for tensor in written if tensor.untyped_storage()._cdata not in returned]


def _bytes(tensor: Tensor) -> int:
    """Of a tensor, without what it repeats."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or size == 0)
    return prod(sizes) * tensor.itemsize
