"""The layers for GPUs against those for all devices, with torch's own operators, on the CPU."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
import torch

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import family_class
from bge_rerank_integrations.model.nn.fused.layers import Operators, fuse
from bge_rerank_integrations.model.nn.fused.probe import fuse_for
from bge_rerank_integrations.model.packing import pack
from bge_rerank_integrations.model.weights import load_weights
from bge_rerank_integrations.options import ScoringOptions
from tests.conftest import CHECKPOINTS, FAMILIES
from tests.parity.test_llm_bases import BASES, save

CPU = torch.device("cpu")
SEQUENCES = [
    TokenSequence((5, 6, 7, 8, 9, 10, 11, 12), (3, 6), prefix=3),
    TokenSequence((5, 6, 7, 20, 21), (3, 4), prefix=3),
    TokenSequence(tuple(range(30, 60)), (10, 25), prefix=10),
]


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_fused_layers_score_the_same(name: str, cuts: bool) -> None:
    family = family_class(name)(Checkpoint(CHECKPOINTS / name))
    with torch.device("meta"):
        model = family.build(family.dimensions.layers)
    model = model.to_empty(device="cpu").requires_grad_(False)
    load_weights(family.checkpoint, model.targets(), Event())
    several = family.allowed_cutoffs[-2:] if cuts and family.allowed_cutoffs else None
    options = ScoringOptions(compress_ratio=2, compress_layers=(1, 2)) if name == "lightweight" else ScoringOptions()
    recipe = family.recipe(options, several)
    batch = pack(SEQUENCES, CPU, ratios=model.ratios(recipe))
    with torch.inference_mode():
        expected = model.score(batch, recipe)
        fuse(model, Operators())
        assert "Fused" in repr(model)
        assert torch.allclose(model.score(batch, recipe), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BASES)
def test_every_base_of_the_llm_family_scores_the_same(name: str, tmp_path: Path) -> None:
    """Layers with norms of queries and keys, or a bias after the feed-forward, stay as they are."""
    family = family_class("llm")(Checkpoint(save(tmp_path, BASES[name])))
    with torch.device("meta"):
        model = family.build(family.dimensions.layers)
    model = model.to_empty(device="cpu").requires_grad_(False)
    load_weights(family.checkpoint, model.targets(), Event())
    recipe, batch = family.recipe(ScoringOptions()), pack(SEQUENCES, CPU)
    with torch.inference_mode():
        expected = model.score(batch, recipe)
        fuse(model, Operators())
        assert torch.allclose(model.score(batch, recipe), expected, rtol=0, atol=1e-5)


def test_operators_tell_which_are_not_torchs_own() -> None:
    assert Operators().fused == ()
    assert Operators(gate_=lambda gate, up, activation: None).fused == ("gate_",)


def test_float32_keeps_its_layers() -> None:
    family = family_class("encoder")(Checkpoint(CHECKPOINTS / "encoder"))
    with torch.device("meta"):
        model = family.build(family.dimensions.layers)
    assert fuse_for(model, torch.device("cuda"), torch.float32) == ()
    assert "Fused" not in repr(model)
