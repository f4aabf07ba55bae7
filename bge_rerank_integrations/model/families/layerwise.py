"""layerwise: bge-reranker-v2-minicpm-layerwise, a MiniCPM with a head after each layer from `start_layer` on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.model.checkpoint import Checkpoint, Count, Positive
from bge_rerank_integrations.model.families.decoder_base import CutoffConfig, CutoffFamily, DecoderModel, dot
from bge_rerank_integrations.model.nn.decoder import DecoderShape
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.prompts import PROMPTS


class MiniCPMConfig(CutoffConfig):
    """The keys of config.json, with the defaults of the publisher's configuration class."""

    hidden_act: str = "silu"
    scale_emb: Positive = 1.0
    scale_depth: Positive = 1.0
    dim_model_base: Positive = 1.0
    start_layer: Count = 8
    head_multi: bool = True
    head_type: Literal["simple", "raw", "complex"] = "simple"

    @property
    def activation(self) -> str:
        return self.hidden_act


class LayerwiseFamily(CutoffFamily):
    name = "layerwise"
    model_types = ("minicpm",)
    options = frozenset({"prompt", "cutoff_layer"})
    default_prompt = PROMPTS["answer_yes_no"]

    @classmethod
    def claims(cls, checkpoint: Checkpoint) -> bool:
        return super().claims(checkpoint) and "start_layer" in checkpoint.config

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config: MiniCPMConfig = checkpoint.read_config(MiniCPMConfig)
        self.check_start(self.config.start_layer)

    @property
    def allowed_cutoffs(self) -> tuple[int, ...]:
        return tuple(range(self.config.start_layer, self.config.num_hidden_layers + 1))

    def recipe(self, options: ScoringOptions, cutoffs: Sequence[int] | None = None) -> Recipe:
        return Recipe(self.cutoffs(options, cutoffs))

    def build(self, depth: int) -> LayerwiseModel:
        config = self.config
        shape = config.shape(
            depth,
            embedding_scale=config.scale_emb,
            residual_scale=config.scale_depth / config.num_hidden_layers**0.5,
        )
        return LayerwiseModel(shape, config, None if config.head_type == "simple" else self.yes_token())


class LayerwiseModel(DecoderModel):
    """The stack and its heads: one for each allowed cutoff (`head_multi`), or one for all.

    A "simple" head has one row. "raw" and "complex" heads have one for each token of the vocabulary, of which only
    that of "Yes" is kept, and see the state divided by hidden_size / dim_model_base.
    """

    def __init__(self, shape: DecoderShape, config: MiniCPMConfig, yes: int | None) -> None:
        super().__init__(shape, config.num_hidden_layers)
        self.config = config
        self.yes = yes
        count = self.all_layers - config.start_layer + 1 if config.head_multi else 1
        self.heads = nn.Parameter(torch.empty(count, 1, shape.width))

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        scores: dict[int, Tensor] = {}
        stream = self.stack.embed(batch.ids, batch.layout)
        done, *_, deepest = 0, *sorted(recipe.cutoffs)
        for cutoff in sorted(set(recipe.cutoffs)):
            if cutoff == deepest:
                state = self.stack.run_to_last(stream, done, cutoff)
            else:
                stream = self.stack.run(stream, done, cutoff)
                state = stream.hidden[stream.layout.last]
            scores[cutoff] = self._head(cutoff, self.stack.finish(state))
            done = cutoff
        return torch.stack([scores[cutoff] for cutoff in recipe.cutoffs], 1)

    def _head(self, cutoff: int, state: Tensor) -> Tensor:
        config = self.config
        if config.head_type != "simple":
            state = state / (config.hidden_size / config.dim_model_base)
        return dot(state, self.heads[cutoff - config.start_layer if config.head_multi else 0])

    def targets(self) -> dict[str, Target]:
        rows, width = (1 if self.yes is None else self.config.vocab_size), self.config.hidden_size
        stem = "weight" if self.config.head_type == "raw" else "linear_head.weight"
        targets = self.stack_targets()
        for i, head in enumerate(self.heads):
            name = f"lm_head.{i}.{stem}" if self.config.head_multi else f"lm_head.{stem}"
            targets[name] = Target(head, (rows, width), row=self.yes)
        return targets
