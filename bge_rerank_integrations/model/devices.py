"""Devices and dtypes: what a user names, as torch has them, refused where this machine does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bge_rerank_integrations.errors import DeviceError, OptionError
from bge_rerank_integrations.options import FASTEST, Device, Dtype, device_names

PLUG_INS = {
    "npu": "Ascend NPUs by the plug-in torch_npu",
    "musa": "GPUs of Moore Threads by the plug-in torch_musa",
    "xpu": "Intel's GPUs by a backend of their own",
    "hpu": "Gaudi accelerators by Intel's plug-in habana_frameworks",
    "mlu": "Cambricon's accelerators by the plug-in torch_mlu",
    "gcu": "Enflame's accelerators by the plug-in torch_gcu",
    "xla": "TPUs by the plug-in torch_xla",
}
"""Accelerators that torch can use and this package does not, and how torch reaches them."""


def choose_devices(devices: Device | Sequence[Device] | None) -> list[torch.device]:
    """Where to put the model; one device unless several are named, and never one that is not there."""
    if devices is None:
        return [torch.device("cuda:0" if torch.cuda.is_available() else "cpu")]
    named = device_names(devices)
    names: Sequence[Any] = named if isinstance(named, tuple) else (named,)
    if not names:
        raise DeviceError("devices is empty: name at least one, such as 'cpu' or 'cuda:0', or use None")
    return [_device(name) for name in names]


def _device(name: Any) -> torch.device:
    if not isinstance(name, (str, torch.device)):
        raise DeviceError(f"device {name!r}: use a name such as 'cpu' or 'cuda:0'")
    kind = str(name).partition(":")[0]
    if kind in PLUG_INS:
        raise DeviceError(
            f"device {str(name)!r} is not supported: torch reaches {PLUG_INS[kind]}, with which nothing here was ever "
            "tested. Use 'cpu', 'cuda:N' or 'mps'"
        )
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


def choose_dtype(dtype: Dtype, devices: Sequence[torch.device]) -> torch.dtype:
    """The dtype asked for; "auto": half precision on GPUs, float32 elsewhere, where half is slower on most machines."""
    if dtype == "auto":
        if all(device.type == "cuda" for device in devices):
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float32
    if dtype == FASTEST:
        raise OptionError("dtype='fastest' is measured when a model is loaded to score: name a dtype here")
    if dtype == "int8" and (elsewhere := [str(device) for device in devices if device.type != "cpu"]):
        raise OptionError(f"dtype='int8' runs on the CPU, not on {', '.join(elsewhere)}: use 'auto' there")
    found: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return found


def candidates(devices: Sequence[torch.device]) -> tuple[str, ...]:
    """The dtypes to try for the fastest, float32 first; float16 is slow on CPUs, and int8 runs nowhere else."""
    kinds = {device.type for device in devices}
    return ("float32", "bfloat16", "int8") if kinds == {"cpu"} else ("float32", "bfloat16", "float16")


def dtype_name(dtype: torch.dtype) -> str:
    """Such as "float32"."""
    return str(dtype).removeprefix("torch.")
