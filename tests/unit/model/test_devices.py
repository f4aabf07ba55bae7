"""Devices and dtypes: what this machine has, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import DeviceError, OptionError
from bge_rerank_integrations.model.devices import PLUG_INS, choose_devices, choose_dtype, dtype_name
from tests.conftest import CHECKPOINTS

ENCODER = CHECKPOINTS / "encoder"


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "xpu", "cpu:x", 3, "mps:7"])
def test_a_device_that_does_not_exist_is_refused(device: Any) -> None:
    with pytest.raises(DeviceError, match=str(device)):
        load_scorer(ENCODER, devices=[device])


@pytest.mark.parametrize("kind", PLUG_INS)
def test_accelerators_of_plug_ins_are_refused_by_name(kind: str) -> None:
    """Whether the plug-in is installed or not."""
    for name in (kind, f"{kind}:0"):
        with pytest.raises(DeviceError, match=rf"'{name}' is not supported: torch reaches .*, with which"):
            load_scorer(ENCODER, devices=name)


def test_no_device_at_all_is_refused() -> None:
    with pytest.raises(DeviceError, match="empty"):
        load_scorer(ENCODER, devices=[])


CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")


def test_a_device_is_named_or_given_alone_or_in_a_list() -> None:
    assert choose_devices("cpu") == choose_devices(["cpu"]) == choose_devices(CPU) == [CPU]  # type: ignore[arg-type]
    assert choose_devices(("cpu", "cpu")) == [CPU, CPU]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_the_cpu_is_taken_and_a_gpu_refused_with_what_there_is() -> None:
    assert choose_devices(None) == [CPU]
    with pytest.raises(DeviceError, match=r"device 'cuda:0' does not exist: this machine has no CUDA device; 'cpu'"):
        choose_devices("cuda:0")


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_the_dtype_asked_for_is_taken_everywhere(name: str) -> None:
    for devices in ([CPU], [CUDA], [CPU, CUDA]):
        assert dtype_name(choose_dtype(name, devices)) == name


def test_auto_is_half_precision_on_gpus_alone() -> None:
    assert choose_dtype("auto", [CPU]) is torch.float32
    assert choose_dtype("auto", [CPU, CUDA]) is torch.float32


def test_int8_is_for_the_cpu() -> None:
    assert choose_dtype("int8", [CPU, CPU]) is torch.int8
    with pytest.raises(OptionError, match=r"dtype='int8' runs on the CPU, not on cuda:0: use 'auto' there"):
        choose_dtype("int8", [CPU, CUDA])
