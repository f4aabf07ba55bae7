"""llm: bge-reranker-v2-gemma and others, a language model that is asked for Yes or No: the score is the logit of "Yes".

Which language models these can be is in `bases`.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.errors import CheckpointError, UnknownFamilyError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint, is_classifier, ties_head
from bge_rerank_integrations.model.families.bases import BASES, Base
from bge_rerank_integrations.model.families.decoder_base import DecoderFamily, DecoderModel, dot
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.sentence_transformers import LogitScore
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.prompts import PROMPTS

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


class LLMFamily(DecoderFamily):
    name = "llm"
    model_types = tuple(BASES)
    options = frozenset({"prompt"})
    default_prompt = PROMPTS["answer_yes_no"]

    @classmethod
    def claims(cls, checkpoint: Checkpoint) -> bool:
        other_heads = "start_layer" in checkpoint.config or is_classifier(checkpoint.config)
        return super().claims(checkpoint) and not other_heads

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config: Base = checkpoint.read_config(BASES[checkpoint.model_type])
        self.tied = ties_head(checkpoint.config)

    def build(self, depth: int) -> LLMModel:
        return LLMModel(self.config, depth, self.yes_token(), tied=self.tied)

    def first_token(self) -> int | None:
        first = super().first_token()
        return None if first == self.checkpoint.tokenizer_files.pad_token() else first  # as the reference does

    def check_tensors(self) -> None:
        super().check_tensors()
        checkpoint, yes = self.checkpoint, self.yes_token()
        if (score := checkpoint.settings.logit_score) is not None and score != LogitScore(yes, None):
            raise CheckpointError(
                f"{checkpoint.folder}: modules.json scores with {score}, but the {self.name} family with the logit of "
                f"'Yes' alone, which is token {yes}: use sentence-transformers for this model"
            )
        if any(name.startswith("lm_head.0.") for name in checkpoint.tensors):
            raise UnknownFamilyError(
                f"{checkpoint.folder} has heads after several layers, as only models of the layerwise and lightweight "
                "families have: say which with family='layerwise' or family='lightweight'"
            )
        if HEAD not in checkpoint.tensors:
            if not self.tied:
                raise WeightsError(
                    f"{checkpoint.folder} lacks {HEAD}, but config.json has tie_word_embeddings false, so that the "
                    "embeddings are not the head: use the complete model"
                )
        elif self.tied and self._differ(yes):
            raise WeightsError(
                f"{checkpoint.folder}: config.json has tie_word_embeddings true, or does not say, so that the "
                f"embeddings are the head; but {HEAD} differs from them: set it to false to use {HEAD}"
            )

    def _differ(self, row: int) -> bool:
        """Whether head and embeddings, where both are stored, have another `row`."""
        stored = self.checkpoint.tensors
        if EMBEDDINGS not in stored or stored[EMBEDDINGS].shape[0] <= row:
            return False  # which the loading of tensors says better
        if stored[HEAD].shape != stored[EMBEDDINGS].shape:
            return True
        rows = dict(self.checkpoint.read_tensors(dict.fromkeys((HEAD, EMBEDDINGS), slice(row, row + 1))))
        return not torch.equal(rows[HEAD], rows[EMBEDDINGS])


class LLMModel(DecoderModel):
    """The stack and one row of the head: the logits of the 256,000 other tokens are never worked out."""

    ignored = (*DecoderModel.ignored, re.escape(HEAD))  # a tied head may be written out as well

    def __init__(self, config: Base, depth: int, yes: int, *, tied: bool) -> None:
        super().__init__(config.stack_shape(depth), config.num_hidden_layers)
        self.config = config
        self.yes = yes
        self.row = None if tied else nn.Parameter(torch.empty(1, config.hidden_size))

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        config = self.config
        stream = self.stack.embed(batch.ids, batch.layout, config.attn_logit_softcapping)
        states = self.stack.finish(self.stack.run_to_last(stream, 0, self.all_layers))
        row = self.stack.words.weight[self.yes : self.yes + 1] if self.row is None else self.row
        scores = dot(states, row)[:, None] * config.logit_scale
        cap = config.final_logit_softcapping
        return scores if cap is None else cap * torch.tanh(scores / cap)

    def targets(self) -> dict[str, Target]:
        targets = self.stack_targets()
        if self.row is not None:
            vocabulary, width = self.stack.words.weight.shape
            targets[HEAD] = Target(self.row, (vocabulary, width), row=self.yes)
        return targets
