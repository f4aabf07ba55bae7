"""One copy of a model on one device: loaded, made fast for it, and run.

On a CPU several threads run it at the same time, each with one core: batches side by side need not wait for each other
after every operation, and keep to their own cores' caches. On a GPU two threads do, each with a stream of its own:
while the batch of one is computed, the other packs and copies the next one, or reads back scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from threading import Event, Lock

import torch

from bge_rerank_integrations.engine.work import DoesNotFit, LayerScores, Recipe, TokenSequence
from bge_rerank_integrations.errors import CheckpointError, OutOfMemory
from bge_rerank_integrations.model.cores import use_cores, with_cores
from bge_rerank_integrations.model.families.base import Family, RerankModel
from bge_rerank_integrations.model.memory import affordable_tokens, check_room
from bge_rerank_integrations.model.nn.fused.probe import fuse_for
from bge_rerank_integrations.model.nn.int8 import Int8Linear, check_int8
from bge_rerank_integrations.model.nn.linear import replace_linears
from bge_rerank_integrations.model.nn.onednn import OneDnnLinear, can_use_onednn, round_up
from bge_rerank_integrations.model.packing import pack

CPU_TOKEN_BUDGET = 1024
"""For each core."""
IN_FLIGHT = 2
"""Batches at a time on a GPU."""

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "alloc_failed", "bad_alloc")
"""What torch's errors of other classes say: the CPU's allocator, MPS and CUDA, cuBLAS and cuDNN, C++."""


class Replica:
    """One copy of the model on one device: the engine's `Runner`."""

    def __init__(
        self, family: Family, device: torch.device, dtype: torch.dtype, cores: int, depth: int, abandoned: Event
    ) -> None:
        """
        Args:
            cores: on a CPU, how many to use; each has a worker.
            depth: how many layers to load; more are loaded when a recipe needs them.
            abandoned: set when no caller waits for the model any more; loading then stops at the next tensor.
        """
        self._abandoned = abandoned
        self.family = family
        self.device = device
        self.dtype = dtype
        self.workers = {"cpu": cores, "cuda": IN_FLIGHT}.get(device.type, 1)
        self.shares = cores if device.type == "cpu" else 1
        self.fused: tuple[str, ...] = ()
        """The operators that are one kernel on this GPU, see `nn.fused`."""
        self._present = 0
        self._cores = cores
        self._lock = Lock()
        self.model: RerankModel | None = None
        self._files = family.checkpoint.file_states()
        with_cores(cores, partial(self._load, depth))

    def _load(self, depth: int) -> None:
        """Load `depth` layers. A model with fewer layers stays in use until this is done, or if it fails."""
        self.family.check_tensors()
        if self.dtype is torch.int8:
            check_int8()
        stored = torch.float32 if self.dtype is torch.int8 else self.dtype
        model = self.family.load(depth, self.device, stored, self._check_room, self._abandoned)
        self._check_files()
        self._round_up = self._speed_up(model)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the workers' streams do not wait for the one that loads
        self.model, self.depth = model, depth

    def _deepen(self, depth: int) -> None:
        """Load the layers that a recipe needs, from the same unchanged files as the first ones."""
        if depth <= self.depth:  # another worker has loaded them meanwhile
            return
        self._check_files()
        try:
            with_cores(self._cores, partial(self._load, depth))
            return
        except OutOfMemory:
            pass
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        raise OutOfMemory(  # here, since the handled error would keep the half-loaded model alive
            f"{depth} layers of {self.family.checkpoint.folder} do not fit {self.device} beside the {self.depth} that "
            "are in use: use a lower cutoff_layer, or load the model with this one"
        )

    def _check_room(self, model: RerankModel) -> None:
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            check_room(model, self.family, self.device, free)

    def _check_files(self) -> None:
        if self.family.checkpoint.file_states() != self._files:
            raise CheckpointError(
                f"the files in {self.family.checkpoint.folder} were changed or moved while the model was in use or "
                "loaded, and not all of its layers are: load the model again, or put the files back"
            )

    def _speed_up(self, model: RerankModel) -> Callable[[int], int] | None:
        """Replace the model's layers by the fastest for device and dtype. Returns `round_up` for `pack`."""
        if not model.native:
            return None
        if self.dtype is torch.int8:
            replace_linears(model, Int8Linear)
        elif self.device.type == "cpu" and self.dtype is torch.float32 and can_use_onednn():
            replace_linears(model, OneDnnLinear)
        elif self.device.type == "cuda":
            self.fused = fuse_for(model, self.device, self.dtype)
            return None
        else:
            return None
        return round_up

    def enter(self) -> None:
        """See `Runner.enter`."""
        with self._lock:
            self._present += 1
        if self.device.type == "cpu":
            use_cores(1)
        elif self.device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(self.device))  # of this thread

    def run_whole(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        """See `Runner.run_whole`."""
        return with_cores(self._cores, partial(self.run, sequences, recipe))

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        """See `Runner.run`."""
        if (depth := recipe.depth(self.family.dimensions.layers)) > self.depth:
            with self._lock:
                self._deepen(depth)
        try:
            return self._run(sequences, recipe)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            message = str(error) or "out of memory"
        raise DoesNotFit(message)  # not inside `except`: the handled error would keep the batch's tensors in memory

    @torch.inference_mode()
    def _run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        assert self.model is not None
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            batch = pack(sequences, self.device, self._round_up, self.model.ratios(recipe))
            scores = self.model.score(batch, recipe)
            rows: list[LayerScores] = scores[: len(sequences)].float().tolist()
        return rows

    def token_budget(self) -> int:
        """How many tokens to run at once, now that the weights are loaded."""
        if self.device.type != "cuda":
            return CPU_TOKEN_BUDGET
        free, _ = torch.cuda.mem_get_info(self.device)
        return affordable_tokens(free // IN_FLIGHT, self.family.dimensions, self.dtype.itemsize)

    def leave(self) -> None:
        """See `Runner.leave`."""
        with self._lock:
            self._present -= 1
            if self._present:
                return
        self.model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device: on the CPU, torch says so only in the message."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)
