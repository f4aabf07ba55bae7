"""How much a device can take at once, and what it cannot take at all."""

from __future__ import annotations

import pytest
import torch

from bge_rerank_integrations.errors import OutOfMemory
from bge_rerank_integrations.loading import resolve
from bge_rerank_integrations.model.families.base import Dimensions, Family, RerankModel
from bge_rerank_integrations.model.memory import CUDA_TOKEN_BUDGET, affordable_tokens, check_room, token_bytes
from bge_rerank_integrations.options import ModelSource, Placement
from tests.conftest import CHECKPOINTS

GPU = torch.device("cuda:0")


def test_a_gpu_takes_as_many_tokens_as_fit() -> None:
    gemma = {"dimensions": Dimensions(18, 2048, 2048, 256, 16384, 3, True), "itemsize": 2}
    assert affordable_tokens(100 * 2**30, **gemma) == CUDA_TOKEN_BUDGET
    assert affordable_tokens(2 * 2**30, **gemma) == 2**30 // (2 * (8 * 2048 + 3 * 16384))
    assert affordable_tokens(0, **gemma) == 2048


def unloaded(name: str, dtype: torch.dtype, depth: int | None = None) -> tuple[RerankModel, Family]:
    family = resolve(ModelSource(str(CHECKPOINTS / name)), Placement("cpu")).family
    with torch.device("meta"):
        return family.build(depth or family.dimensions.layers).to(dtype), family


@pytest.mark.parametrize("name", ["encoder", "llm", "layerwise", "lightweight"])
def test_a_model_that_does_not_fit_is_refused_with_what_needs_less(name: str) -> None:
    model, family = unloaded(name, torch.float32)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    needed = weights + 2048 * token_bytes(family.dimensions, 4)
    check_room(model, family, GPU, needed)
    with pytest.raises(OutOfMemory, match=r"needs .* GB in float32, of which .* GB are free on cuda:0") as caught:
        check_room(model, family, GPU, needed - 1)
    message = str(caught.value)
    assert f"needs {needed / 1e9:.1f} GB" in message
    assert "dtype='bfloat16'" in message
    assert "devices=" in message
    assert ("cutoff_layer" in message) == (name in ("layerwise", "lightweight"))


def test_half_precision_needs_half_and_is_not_advised_again() -> None:
    model, family = unloaded("llm", torch.float32)
    half, _ = unloaded("llm", torch.bfloat16)
    needed = sum(one.nbytes for one in model.parameters()) + 2048 * token_bytes(family.dimensions, 4)
    check_room(half, family, GPU, needed // 2)
    with pytest.raises(OutOfMemory) as caught:
        check_room(half, family, GPU, needed // 2 - 1)
    assert "bfloat16'" not in str(caught.value)


def test_fewer_layers_need_less() -> None:
    whole, family = unloaded("layerwise", torch.float32)
    part, _ = unloaded("layerwise", torch.float32, family.allowed_cutoffs[0])
    free = sum(one.nbytes for one in part.parameters()) + 2048 * token_bytes(family.dimensions, 4)
    check_room(part, family, GPU, free)
    with pytest.raises(OutOfMemory):
        check_room(whole, family, GPU, free)
