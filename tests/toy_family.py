"""A fifth family, in one file as every family is: what a query and a passage have in common, as bags of embeddings.

The score is the dot product of the query's embeddings, summed, with the passage's, which a matrix turns first.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import torch
from pydantic import PositiveInt
from safetensors.torch import save_file
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.model.checkpoint import Checkpoint, CheckpointConfig
from bge_rerank_integrations.model.families.base import Dimensions, Family, RerankModel
from bge_rerank_integrations.model.inputs import EncoderInputs, EncoderTemplate, Limits
from bge_rerank_integrations.model.nn.linear import Linear
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.options import ScoringOptions
from tests.conftest import CHECKPOINTS


class ToyConfig(CheckpointConfig):
    """The keys of config.json."""

    how_many_words: PositiveInt
    how_wide: PositiveInt


class ToyFamily(Family):
    name = "toy"
    model_types = ("bag-of-words",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config = checkpoint.read_config(ToyConfig)

    @property
    def dimensions(self) -> Dimensions:
        width = self.config.how_wide
        return Dimensions(
            layers=1,
            width=width,
            query_width=width,
            key_value_width=width,
            feed_forward=width,
            feed_forward_products=1,
            causal=False,
        )

    @property
    def longest(self) -> int:
        return 1000

    def inputs(self, options: ScoringOptions, limits: Limits) -> EncoderInputs:
        tokenizer = self.checkpoint.tokenizer
        return EncoderInputs(tokenizer, EncoderTemplate.of(tokenizer), limits, options.query_instruction or "")

    def build(self, depth: int) -> ToyModel:
        return ToyModel(self.config)


class ToyModel(RerankModel):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.how_many_words, config.how_wide)
        self.turn = Linear(config.how_wide, config.how_wide)

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        words = self.words(batch.ids)
        turned = self.turn(words)
        scores = [
            words[begin : begin + start].sum(0) @ turned[begin + start : end].sum(0)
            for (begin, end), (start, _) in zip(pairwise(batch.layout.offsets), batch.passages, strict=True)
        ]
        return torch.stack(scores)[:, None]


def write_toy(folder: Path) -> Path:
    """Write a checkpoint of random numbers, its tokenizer that of the tiny encoder; returns the folder."""
    folder.mkdir()
    shutil.copy(CHECKPOINTS / "encoder" / "tokenizer.json", folder)
    words, width = 2000, 16
    config = {"model_type": "bag-of-words", "how_many_words": words, "how_wide": width}
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    shapes = {"words.weight": (words, width), "turn.weight": (width, width), "turn.bias": (width,)}
    tensors = {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
