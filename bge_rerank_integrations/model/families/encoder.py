"""encoder: cross-encoders on XLM-RoBERTa (bge-reranker-base, -large, -v2-m3) or BERT; the score is their one logit."""

from __future__ import annotations

import json
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.errors import CheckpointError, UnknownFamilyError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint, CheckpointConfig, Count, Epsilon, Size
from bge_rerank_integrations.model.families.base import Dimensions, Family, RerankModel
from bge_rerank_integrations.model.families.labels import one_score
from bge_rerank_integrations.model.inputs import EncoderInputs, EncoderTemplate, Limits
from bge_rerank_integrations.model.nn.activations import ACTIVATIONS
from bge_rerank_integrations.model.nn.encoder import EncoderLayer, EncoderShape, EncoderStack
from bge_rerank_integrations.model.packing import PackedBatch
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.options import ScoringOptions

PREFIXES = {"xlm-roberta": "roberta", "roberta": "roberta", "camembert": "roberta", "bert": "bert"}
"""The name under which each model type keeps its encoder."""


class EncoderConfig(CheckpointConfig):
    """The keys of config.json."""

    model_type: str
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    intermediate_size: Size
    max_position_embeddings: Size
    type_vocab_size: Size = 1
    layer_norm_eps: Epsilon = 1e-5
    hidden_act: str = "gelu"
    pad_token_id: int = Field(default=1, ge=0)
    position_embedding_type: str | None = "absolute"
    num_labels: int | None = None
    id2label: dict[str, Any] | None = None
    problem_type: str | None = None

    @property
    def labels(self) -> int | None:
        """How many labels config.json names; None: it does not say."""
        return len(self.id2label) if self.id2label is not None else self.num_labels

    @property
    def is_roberta(self) -> bool:
        return PREFIXES[self.model_type] == "roberta"

    @model_validator(mode="after")
    def _fits(self) -> EncoderConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} does not divide by {self.num_attention_heads} heads")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.position_embedding_type not in ("absolute", None):
            raise ValueError(f"position_embedding_type {self.position_embedding_type!r}: only 'absolute' is known")
        if self.is_roberta and self.pad_token_id + 1 >= self.max_position_embeddings:
            raise ValueError(
                f"pad_token_id {self.pad_token_id} leaves a text none of {self.max_position_embeddings} positions, "
                "which count from there"
            )
        return self

    def shape(self) -> EncoderShape:
        return EncoderShape(
            vocabulary=self.vocab_size,
            width=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            feed_forward=self.intermediate_size,
            positions=self.max_position_embeddings,
            token_types=self.type_vocab_size,
            norm_eps=self.layer_norm_eps,
            activation=self.hidden_act,
            pad_token=self.pad_token_id if self.is_roberta else None,
        )


class EncoderFamily(Family):
    name = "encoder"
    model_types = tuple(PREFIXES)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config = checkpoint.read_config(EncoderConfig)

    def check_tensors(self) -> None:
        super().check_tensors()
        checkpoint, config = self.checkpoint, self.config
        if not any("classifier." in name for name in checkpoint.tensors):  # whatever stands before it
            raise UnknownFamilyError(
                f"{checkpoint.folder}: {checkpoint.architecture} has no classifier head, so it is an embedding or "
                "language model and cannot rerank: use one whose architecture ends with ForSequenceClassification"
            )
        _check_labels(checkpoint, self.head, config.labels)
        pad = checkpoint.tokenizer_files.pad_token()
        if config.is_roberta and pad not in (None, config.pad_token_id):
            raise CheckpointError(
                f"{checkpoint.folder}: config.json has pad_token_id {config.pad_token_id}, but the tokenizer pads with "
                f"{pad}, and positions count from there: the two are of different models"
            )
        if self.second_type >= config.type_vocab_size:
            raise CheckpointError(
                f"{checkpoint.folder}: the tokenizer gives passages the token type {self.second_type}, but config.json "
                f"has type_vocab_size {config.type_vocab_size}: the two are of different models"
            )
        if checkpoint.settings.logit_score is not None:
            raise CheckpointError(
                f"{checkpoint.folder}: modules.json has a LogitScore, which only language models have, and this is "
                f"{checkpoint.architecture}"
            )

    @property
    def dimensions(self) -> Dimensions:
        config = self.config
        return Dimensions(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            query_width=config.hidden_size,
            key_value_width=config.hidden_size,
            feed_forward=config.intermediate_size,
            feed_forward_products=2,
            causal=False,
        )

    @property
    def longest(self) -> int:
        # RoBERTa gives no text the positions up to and with pad_token_id
        reserved = self.config.pad_token_id + 1 if self.config.is_roberta else 0
        return self.config.max_position_embeddings - reserved

    def inputs(self, options: ScoringOptions, limits: Limits) -> EncoderInputs:
        tokenizer = self.checkpoint.tokenizer
        return EncoderInputs(
            tokenizer,
            EncoderTemplate.of(tokenizer),
            limits,
            self.checkpoint.settings.query_prompt if options.query_instruction is None else options.query_instruction,
            options.passage_instruction or "",
        )

    def build(self, depth: int) -> EncoderModel:
        return EncoderModel(self.config, self.second_type, self.label_count)

    @property
    def label_count(self) -> int:
        """How many labels the head has: 2 if it has two rows, or else 1, as rerankers have."""
        head = self.checkpoint.tensors.get(self.head)
        return 2 if head is not None and head.shape[:1] == (2,) else 1

    @property
    def head(self) -> str:
        return "classifier.out_proj.weight" if self.config.is_roberta else "classifier.weight"

    @property
    def second_type(self) -> int:
        """The token type of passages. transformers hands RoBERTa models none, whatever the template says."""
        files = self.checkpoint.tokenizer_files
        if self.config.is_roberta or not files.gives_token_types:
            return 0
        return EncoderTemplate.of(files.tokenizer).second_type


class EncoderModel(RerankModel):
    """Encoder, then dense, tanh and projection of the first token's state; BERT calls that dense layer its pooler."""

    ignored = (r"(roberta|bert)\.embeddings\.position_ids", r"roberta\.pooler\.dense\.(weight|bias)")

    def __init__(self, config: EncoderConfig, second_type: int, labels: int) -> None:
        super().__init__()
        self.config = config
        self.second_type = second_type
        self.stack = EncoderStack(config.shape())
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.projection = nn.Linear(config.hidden_size, labels)

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        types = batch.second_text if self.second_type else None
        state = self.stack.read(batch.ids, types, batch.layout)
        logits: Tensor = self.projection(torch.tanh(self.dense(state)))
        return one_score(logits, self.config.problem_type)

    def targets(self) -> dict[str, Target]:
        root, stack = PREFIXES[self.config.model_type], self.stack
        targets = {
            f"{root}.embeddings.word_embeddings.weight": Target.whole(stack.words.weight),
            f"{root}.embeddings.position_embeddings.weight": Target.whole(stack.positions.weight),
            f"{root}.embeddings.token_type_embeddings.weight": Target.whole(stack.types.weight),
            **_both(f"{root}.embeddings.LayerNorm", stack.norm),
        }
        for i, layer in enumerate(stack.layers):
            targets |= _layer_targets(f"{root}.encoder.layer.{i}", layer)
        if self.config.is_roberta:
            targets |= _both("classifier.dense", self.dense) | _both("classifier.out_proj", self.projection)
        else:
            targets |= _both("bert.pooler.dense", self.dense) | _both("classifier", self.projection)
        return targets


def _check_labels(checkpoint: Checkpoint, head: str, labels: int | None) -> None:
    """Refuse a head of several labels, and a config.json that names another number than the head has."""
    shape = checkpoint.tensors[head].shape if head in checkpoint.tensors else ()
    if len(shape) != 2:
        return  # which the loading of tensors says better
    if shape[0] not in (1, 2):
        named = "does not say how many" if labels is None else f"names {_labels(labels)}"
        raise WeightsError(
            f"{checkpoint.folder}: {head} has the shape {tuple(shape)}, which makes {_labels(shape[0])}, and "
            f"config.json {named}; a reranker has one label, with the shape {(1, shape[1])}, or two: this is a "
            "classifier, so use another model, or fine-tune it with num_labels=1"
        )
    if labels not in (shape[0], None):
        right = json.dumps({str(label): f"LABEL_{label}" for label in range(shape[0])})
        raise WeightsError(
            f"{checkpoint.folder}: config.json names {_labels(labels)}, but {head} has the shape {tuple(shape)}, which "
            f'makes {_labels(shape[0])}: if the weights are the right ones, write "id2label": {right} '
            "into config.json and remove num_labels; else copy the weights that belong to it"
        )


def _labels(count: int) -> str:
    return "1 label" if count == 1 else f"{count} labels"


def _layer_targets(name: str, layer: Any) -> dict[str, Target]:
    assert isinstance(layer, EncoderLayer)
    targets = (
        _both(f"{name}.attention.output.dense", layer.out)
        | _both(f"{name}.attention.output.LayerNorm", layer.attention_norm)
        | _both(f"{name}.intermediate.dense", layer.up)
        | _both(f"{name}.output.dense", layer.down)
        | _both(f"{name}.output.LayerNorm", layer.output_norm)
    )
    weights = (layer.query.weight, *layer.key_value.weight.chunk(2))
    biases = (layer.query.bias, *layer.key_value.bias.chunk(2))
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        targets[f"{name}.attention.self.{part}.weight"] = Target.whole(weight)
        targets[f"{name}.attention.self.{part}.bias"] = Target.whole(bias)
    return targets


def _both(name: str, module: nn.Linear | nn.LayerNorm) -> dict[str, Target]:
    return {f"{name}.weight": Target.whole(module.weight), f"{name}.bias": Target.whole(module.bias)}
