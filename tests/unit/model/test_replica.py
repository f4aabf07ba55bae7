"""How much a device can take at once."""

from __future__ import annotations

from bge_rerank_integrations.model.families.base import Dimensions
from bge_rerank_integrations.model.replica import CUDA_TOKEN_BUDGET, affordable_tokens


def test_a_gpu_takes_as_many_tokens_as_fit() -> None:
    gemma = {"dimensions": Dimensions(18, 2048, 2048, 256, 16384, 3, True), "itemsize": 2}
    assert affordable_tokens(100 * 2**30, **gemma) == CUDA_TOKEN_BUDGET
    assert affordable_tokens(2 * 2**30, **gemma) == 2**30 // (2 * (8 * 2048 + 3 * 16384))
    assert affordable_tokens(0, **gemma) == 2048
