"""Strict loading: each tensor of the checkpoint goes to its destination, and whatever does not fit is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event

import torch
from torch import Tensor

from bge_rerank_integrations.errors import ClosedError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.tensor_files import FLOATS

_QUANTIZED = re.compile(
    r".+\.(qweight|qzeros|scales|g_idx|SCB|weight_format|weight_scale(_inv)?|weight_zero_point|weight_packed|absmax"
    r"|quant_map|quant_state\..+)"
)
"""Names of what quantized weights consist of, in the formats of GPTQ, AWQ, bitsandbytes and compressed-tensors."""


@dataclass(frozen=True)
class Target:
    """Where one tensor of the checkpoint goes: into `destination`, a view of a parameter.

    `row` picks one row of the stored tensor, or several (those of a vocabulary-sized head that are ever read).
    `destination` may be None for a tensor that belongs to the model but is not needed, such as a layer past the cutoff;
    then only `shape` counts.
    """

    destination: Tensor | None
    shape: tuple[int, ...]
    row: int | Sequence[int] | None = None

    @staticmethod
    def whole(destination: Tensor) -> Target:
        return Target(destination, tuple(destination.shape))

    @property
    def rows(self) -> slice:
        """The rows to read: the picked ones and those between."""
        picked = self._picked
        return slice(min(picked), max(picked) + 1) if picked else slice(None)

    def pick(self, read: Tensor) -> Tensor:
        """The picked rows of those that were read."""
        picked = self._picked
        return read[[row - min(picked) for row in picked]] if len(picked) > 1 else read

    @property
    def _picked(self) -> Sequence[int]:
        return () if self.row is None else (self.row,) if isinstance(self.row, int) else self.row


def check_weights(checkpoint: Checkpoint, targets: Mapping[str, Target], ignored: Sequence[str]) -> None:
    """Compare the tensors that the files' headers name with those that the model has; nothing is allocated.

    Args:
        checkpoint: where the tensors are.
        targets: by the tensors' names in the checkpoint; on any device, "meta" included.
        ignored: regular expressions of names that may be there and are not read, as the reference does not read them.

    Raises:
        WeightsError: a tensor is missing, unexpected, of another shape, or not of floating-point numbers.
    """
    stored = checkpoint.tensors
    unread = re.compile("|".join(ignored)) if ignored else None
    unexpected = [name for name in stored if name not in targets and not (unread and unread.fullmatch(name))]
    if quantized := [name for name in unexpected if _QUANTIZED.fullmatch(name)]:
        raise WeightsError(
            f"{checkpoint.folder} has {_some(quantized)}, as quantized weights do, which cannot be run here: use the "
            "model that they were made from"
        )
    if missing := [name for name in targets if name not in stored]:
        raise WeightsError(
            f"{checkpoint.folder} lacks {_some(missing)}"
            + (f"; it has {_some(unexpected)} instead" if unexpected else "")
        )
    if unexpected:
        raise WeightsError(
            f"{checkpoint.folder} has {_some(unexpected)}, which {checkpoint.architecture} does not have"
        )
    for name, target in targets.items():
        shape, dtype = stored[name]
        if dtype not in FLOATS:
            raise WeightsError(
                f"{checkpoint.folder}: {name} holds numbers of the type {dtype}, not one of {', '.join(FLOATS)}: the "
                "weights are quantized or broken; use those that the model was trained with"
            )
        if shape != target.shape:
            raise WeightsError(
                f"{checkpoint.folder}: {name} has shape {shape}, but config.json makes it {target.shape}"
            )


@torch.no_grad()
def load_weights(checkpoint: Checkpoint, targets: Mapping[str, Target], abandoned: Event) -> None:
    """Copy every tensor to its target, one by one, converted to the target's device and dtype on the way.

    Args:
        checkpoint: where the tensors are; `check_weights` found nothing wrong with them.
        targets: by the tensors' names in the checkpoint.
        abandoned: when set, no further tensor is read.

    Raises:
        WeightsError: a tensor is not finite.
        ClosedError: it was abandoned.
    """
    wanted = {name: target.rows for name, target in targets.items() if target.destination is not None}
    for name, tensor in checkpoint.read_tensors(wanted):
        if abandoned.is_set():
            raise ClosedError(f"loading {checkpoint.folder} was interrupted")
        destination = targets[name].destination
        assert destination is not None
        destination.copy_(targets[name].pick(tensor).view(destination.shape))
        if not torch.isfinite(destination.sum(dtype=torch.float32)):
            raise WeightsError(
                f"{checkpoint.folder}: {name} holds NaN or infinity in {str(destination.dtype).removeprefix('torch.')}"
                " (a broken file, or values too large for this dtype: try dtype='float32')"
            )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
