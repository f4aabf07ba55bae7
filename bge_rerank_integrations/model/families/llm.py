"""llm: bge-reranker-v2-gemma, a Gemma that is asked for Yes or No; the score is the logit of "Yes" at the end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families.decoder_base import DecoderConfig, DecoderFamily, DecoderModel, dot
from bge_rerank_integrations.model.nn.decoder import DecoderShape
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.prompts import PROMPTS


class GemmaConfig(DecoderConfig):
    """The keys of config.json. Gemma's `hidden_act` says "gelu" where the tanh form is meant: it is not read."""

    hidden_activation: str | None = None

    @property
    def activation(self) -> str:
        return self.hidden_activation or "gelu_pytorch_tanh"


class LLMFamily(DecoderFamily):
    name = "llm"
    model_types = ("gemma",)
    options = frozenset({"prompt"})
    default_prompt = PROMPTS["answer_yes_no"]

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config: GemmaConfig = checkpoint.read_config(GemmaConfig)

    def build(self, depth: int) -> GemmaModel:
        config = self.config
        shape = config.shape(
            depth,
            embedding_scale=config.hidden_size**0.5,
            norm_offset=1.0,
        )
        return GemmaModel(
            shape, config.num_hidden_layers, self.yes_token(), tied="lm_head.weight" not in self.checkpoint.tensors
        )


class GemmaModel(DecoderModel):
    """The stack and one row of the head: the logits of the 256,000 other tokens are never worked out."""

    def __init__(self, shape: DecoderShape, layers: int, yes: int, *, tied: bool) -> None:
        super().__init__(shape, layers)
        self.yes = yes
        self.row = None if tied else nn.Parameter(torch.empty(1, shape.width))

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        stream = self.stack.embed(batch.ids, batch.layout)
        states = self.stack.finish(self.stack.run_to_last(stream, 0, self.all_layers))
        row = self.stack.words.weight[self.yes : self.yes + 1] if self.row is None else self.row
        return dot(states, row)[:, None]

    def targets(self) -> dict[str, Target]:
        targets = self.stack_targets()
        if self.row is not None:
            vocabulary, width = self.stack.words.weight.shape
            targets["lm_head.weight"] = Target(self.row, (vocabulary, width), row=self.yes)
        return targets
