"""Devices and dtypes: what this machine has, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import DeviceError
from tests.conftest import CHECKPOINTS

ENCODER = CHECKPOINTS / "encoder"


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "xpu", "cpu:x", 3, "mps:7"])
def test_a_device_that_does_not_exist_is_refused(device: Any) -> None:
    with pytest.raises(DeviceError, match=str(device)):
        load_scorer(ENCODER, devices=[device])


def test_no_device_at_all_is_refused() -> None:
    with pytest.raises(DeviceError, match="empty"):
        load_scorer(ENCODER, devices=[])
