"""Whole models with the fused operators, interpreted: the scores of the plain layers; and what becomes of a bad one."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import family_class
from bge_rerank_integrations.model.nn.fused import probe
from bge_rerank_integrations.model.nn.fused.layers import Operators, fuse
from bge_rerank_integrations.model.packing import pack
from bge_rerank_integrations.model.weights import load_weights
from bge_rerank_integrations.options import ScoringOptions
from tests.conftest import CHECKPOINTS, FAMILIES

pytestmark = [
    pytest.mark.cuda_trace,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"),
]
CPU = torch.device("cpu")
SEQUENCES = [
    TokenSequence((5, 6, 7, 8, 9, 10, 11, 12), (3, 6), prefix=3),
    TokenSequence((5, 6, 7, 20, 21), (3, 4), prefix=3),
    TokenSequence(tuple(range(30, 60)), (10, 25), prefix=10),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_fused_operators_score_the_same(name: str) -> None:
    family = family_class(name)(Checkpoint(CHECKPOINTS / name))
    with torch.device("meta"):
        model = family.build(family.dimensions.layers)
    model = model.to_empty(device="cpu").requires_grad_(False)
    load_weights(family.checkpoint, model.targets(), Event())
    recipe = family.recipe(ScoringOptions(), family.allowed_cutoffs[-2:] or None)
    batch = pack(SEQUENCES, CPU)
    with torch.inference_mode():
        expected = model.score(batch, recipe)
        fuse(model, Operators(**probe.load()))
        assert torch.allclose(model.score(batch, recipe), expected, rtol=0, atol=1e-4)


def test_all_operators_agree_here() -> None:
    assert len(probe.probe(CPU, torch.bfloat16, 48, 8, "silu").fused) == 6


def wrong(*given: Any) -> Tensor:
    return torch.zeros_like(given[0])


def broken(*given: Any) -> Tensor:
    raise RuntimeError("PTXAS error")


@pytest.mark.parametrize("operator", [wrong, broken])
def test_one_that_disagrees_or_does_not_build_is_not_used(
    operator: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe.load() | {"rms_norm": operator}
    monkeypatch.setattr(probe, "load", lambda: found)
    fused = probe.probe(CPU, torch.bfloat16, 48, 8, "silu").fused
    assert len(fused) == 5
    assert "rms_norm" not in fused


def test_without_triton_all_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, Any]:
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(probe, "load", missing)
    assert probe.probe(CPU, torch.bfloat16, 48, 8, "silu").fused == ()
