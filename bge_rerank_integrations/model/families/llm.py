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
from bge_rerank_integrations.model.families.asking import Asking, find_asking
from bge_rerank_integrations.model.families.bases import BASES, Base
from bge_rerank_integrations.model.families.decoder_base import DecoderFamily, DecoderModel, dot
from bge_rerank_integrations.model.inputs import Limits, PairEncoder
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.sentence_transformers import LogitScore
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.once import once
from bge_rerank_integrations.options import ScoringOptions
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

    @once
    def asking(self) -> Asking | None:
        """What the model is asked, where that is not the publisher's prompt."""
        return find_asking(self.checkpoint, LogitScore(self.yes_token(), None), self.default_prompt)

    @property
    def asks_itself(self) -> bool:
        return self.asking is None

    @property
    def score_tokens(self) -> LogitScore:
        """The tokens whose logits make the score."""
        score = LogitScore(self.yes_token(), None) if self.asking is None else self.asking.score
        for token in (score.true_token, score.false_token):
            if token is not None and not 0 <= token < self.config.vocab_size:
                raise CheckpointError(
                    f"{self.checkpoint.folder}: the score is read at token {token}, which is not one of the model's "
                    f"{self.config.vocab_size}"
                )
        return score

    def inputs(self, options: ScoringOptions, limits: Limits) -> PairEncoder:
        return super().inputs(options, limits) if self.asking is None else self.asking.inputs(options, limits)

    def build(self, depth: int) -> LLMModel:
        return LLMModel(self.config, depth, self.score_tokens, tied=self.tied)

    def first_token(self) -> int | None:
        first = super().first_token()
        return None if first == self.checkpoint.tokenizer_files.pad_token() else first  # as the reference does

    def check_tensors(self) -> None:
        super().check_tensors()
        checkpoint, tokens = self.checkpoint, self.score_tokens
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
        elif self.tied and self._differ(tokens.true_token):
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
    """The stack and one row of the head, or two: the logits of the 256,000 other tokens are never worked out."""

    ignored = (*DecoderModel.ignored, re.escape(HEAD))  # a tied head may be written out as well

    def __init__(self, config: Base, depth: int, tokens: LogitScore, *, tied: bool) -> None:
        super().__init__(config.stack_shape(depth), config.num_hidden_layers)
        self.config = config
        self.tokens = [token for token in (tokens.true_token, tokens.false_token) if token is not None]
        self.rows = None if tied else nn.Parameter(torch.empty(len(self.tokens), config.hidden_size))

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        stream = self.stack.embed(batch.ids, batch.layout, self.config.attn_logit_softcapping)
        states = self.stack.finish(self.stack.run_to_last(stream, 0, self.all_layers))
        true, *false = (self._logit(states, nth) for nth in range(len(self.tokens)))
        return (true - false[0] if false else true)[:, None]

    def _logit(self, states: Tensor, nth: int) -> Tensor:
        """The logit of one of the tokens. *Shape:* (sequences, width) -> (sequences,)"""
        place, rows = (self.tokens[nth], self.stack.words.weight) if self.rows is None else (nth, self.rows)
        logit = dot(states, rows[place : place + 1]) * self.config.logit_scale
        cap = self.config.final_logit_softcapping
        return logit if cap is None else cap * torch.tanh(logit / cap)

    def targets(self) -> dict[str, Target]:
        targets = self.stack_targets()
        if self.rows is not None:
            targets[HEAD] = Target(self.rows, tuple(self.stack.words.weight.shape), row=self.tokens)
        return targets
