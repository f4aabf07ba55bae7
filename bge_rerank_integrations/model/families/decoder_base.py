"""What the three decoder families share: config keys, inputs, and the names of a decoder's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor, nn

from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.model.checkpoint import CheckpointConfig, Count, Epsilon, Positive, Size
from bge_rerank_integrations.model.families.base import Dimensions, Family, RerankModel
from bge_rerank_integrations.model.inputs import DecoderInputs, Limits, tokenize
from bge_rerank_integrations.model.nn.activations import ACTIVATIONS
from bge_rerank_integrations.model.nn.decoder import DecoderLayer, DecoderShape, DecoderStack
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.options import ScoringOptions, whole_number
from bge_rerank_integrations.prompts import PROMPTS

SEPARATOR = "\n"


class Rotation(CheckpointConfig):
    """The numbers of rotary positions."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Positive
    partial_rotary_factor: float = 1.0

    @property
    def kind(self) -> str:
        return self.rope_type or self.type or "default"


class DecoderConfig(CheckpointConfig):
    """The keys of config.json that all decoders have."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    max_position_embeddings: Size
    rms_norm_eps: Epsilon = 1e-6
    rope_theta: Positive = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False

    @property
    def activation(self) -> str:
        """The gate's activation function."""
        raise NotImplementedError

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def size_of_head(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rotations(self) -> list[Rotation]:
        """The rotary positions that config.json names, one for each kind of layer where it tells kinds apart.

        transformers 5 writes them under rope_parameters.
        """
        given = self.rope_parameters or self.rope_scaling or {}
        by_kind = [value for value in given.values() if isinstance(value, dict)]
        if (by_kind and len(by_kind) < len(given)) or any(isinstance(v, dict) for one in by_kind for v in one.values()):
            raise ValueError(f"rope_parameters {given!r} are neither one set of numbers nor one for each kind of layer")
        return [Rotation.model_validate({"rope_theta": self.rope_theta} | one) for one in by_kind or [given]]

    @model_validator(mode="after")
    def _fits(self) -> DecoderConfig:
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(f"{self.num_attention_heads} heads cannot share {self.kv_heads} key-value heads evenly")
        if self.size_of_head % 2 or not self.size_of_head:
            raise ValueError(f"head_dim {self.size_of_head}: rotary positions need an even one")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        rotations = self.rotations
        for rotation in rotations:
            if rotation.kind != "default" or rotation.partial_rotary_factor != 1:
                raise ValueError(f"rotary positions of type {rotation.kind!r} ({rotation}): only plain ones are known")
        if len({rotation.rope_theta for rotation in rotations}) > 1:
            raise ValueError("rope_parameters has several rope_theta: only one for all layers is known")
        if self.attention_bias:
            raise ValueError("attention_bias true: only decoders without biases are known")
        return self

    def shape(self, depth: int, **differences: Any) -> DecoderShape:
        """The stack's numbers, `differences` over what is common."""
        common = {
            "vocabulary": self.vocab_size,
            "width": self.hidden_size,
            "layers": depth,
            "heads": self.num_attention_heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.size_of_head,
            "feed_forward": self.intermediate_size,
            "norm_eps": self.rms_norm_eps,
            "activation": self.activation,
            "rope_theta": self.rotations[0].rope_theta,
            "attention_scale": self.size_of_head**-0.5,
        }
        return DecoderShape(**{**common, **differences})


class DecoderFamily(Family):
    """A family whose inputs end with a prompt and whose score is read at the last token."""

    config: DecoderConfig
    default_prompt: ClassVar[str]

    @property
    def longest(self) -> int:
        return self.config.max_position_embeddings

    @property
    def dimensions(self) -> Dimensions:
        config = self.config
        return Dimensions(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            query_width=config.num_attention_heads * config.size_of_head,
            key_value_width=config.kv_heads * config.size_of_head,
            feed_forward=config.intermediate_size,
            feed_forward_products=3,
            causal=True,
        )

    def inputs(self, options: ScoringOptions, limits: Limits) -> DecoderInputs:
        checkpoint = self.checkpoint
        prompt = self.default_prompt if options.prompt is None else PROMPTS.get(options.prompt, options.prompt)
        separator, prompt_ids = tokenize(checkpoint.tokenizer, [SEPARATOR, prompt])
        first = self.first_token()
        return DecoderInputs(
            checkpoint.tokenizer,
            limits,
            bos=[] if first is None else [first],
            separator=separator,
            prompt=prompt_ids,
            query_instruction="A: " if options.query_instruction is None else options.query_instruction,
            passage_instruction="B: " if options.passage_instruction is None else options.passage_instruction,
        )

    def first_token(self) -> int | None:
        """What each input begins with (bos); None: nothing."""
        return self.checkpoint.tokenizer_files.first_token()

    def check_tensors(self) -> None:
        super().check_tensors()
        if prompt := self.checkpoint.settings.query_prompt:
            raise CheckpointError(
                f"{self.checkpoint.folder}: config_sentence_transformers.json puts the prompt {prompt!r} before each "
                f"query, which the {self.name} family, with a prompt of its own, cannot: remove default_prompt_name "
                "there, and give query_instruction instead if it is to be so"
            )

    def yes_token(self) -> int:
        """The first token of "Yes", whose logit the score is where the head has a row for every token."""
        (ids,) = tokenize(self.checkpoint.tokenizer, ["Yes"])
        if not ids or ids[0] >= self.config.vocab_size:
            raise CheckpointError(
                f"{self.checkpoint.folder}: the tokenizer gives 'Yes' no token of the model's vocabulary"
            )
        return ids[0]


class CutoffFamily(DecoderFamily):
    """A decoder family whose score can be read after any of several layers."""

    def check_start(self, start_layer: int) -> None:
        """Refuse a first cutoff that the checkpoint's layers do not reach."""
        layers = self.config.num_hidden_layers
        if start_layer > layers:
            raise CheckpointError(
                f"{self.checkpoint.folder}: start_layer {start_layer} is past the last of {layers} layers"
            )

    def shared_pass(self, options: ScoringOptions) -> ScoringOptions:
        return replace(super().shared_pass(options), cutoff_layer=None)

    def cutoffs(self, options: ScoringOptions, asked: Sequence[int] | None) -> tuple[int, ...]:
        """The layers to read scores from, in the order asked; the last layer where nothing is asked."""
        if asked is None:
            asked = (self.allowed_cutoffs[-1] if options.cutoff_layer is None else options.cutoff_layer,)
        layers = [asked] if whole_number(asked) is not None else list(asked)
        if not layers:
            raise OptionError("cutoff_layers is empty: name at least one layer")
        return tuple(map(self._allowed, layers))

    def _allowed(self, layer: object) -> int:
        number = whole_number(layer)
        if number is None or number not in self.allowed_cutoffs:
            raise OptionError(
                f"cutoff layer {layer!r} is not possible here: use one of {_ranges(self.allowed_cutoffs)}"
            )
        return number


class DecoderModel(RerankModel):
    """A decoder stack, the tensors of which have the names of transformers' decoders."""

    ignored: ClassVar[tuple[str, ...]] = (
        r"model\.layers\.\d+\.self_attn\.rotary_emb\.(inv_freq|cos_cached|sin_cached)",
    )

    def __init__(self, shape: DecoderShape, layers: int) -> None:
        super().__init__()
        self.all_layers = layers
        """How many layers the checkpoint has; the stack may have fewer."""
        self.stack = DecoderStack(shape)

    def stack_targets(self) -> dict[str, Target]:
        stack = self.stack
        targets = {
            "model.embed_tokens.weight": Target.whole(stack.words.weight),
            "model.norm.weight": Target.whole(stack.norm.weight),
        }
        for i in range(self.all_layers):
            built = i < len(stack.layers)
            for name, destination in _layer_destinations(stack.layers[i if built else 0]).items():
                targets[f"model.layers.{i}.{name}.weight"] = Target(
                    destination if built else None, tuple(destination.shape)
                )
        return targets


def _layer_destinations(layer: nn.Module) -> dict[str, Tensor]:
    assert isinstance(layer, DecoderLayer)
    key, value = layer.key_value.weight.chunk(2)
    destinations = {
        "self_attn.q_proj": layer.query.weight,
        "self_attn.k_proj": key,
        "self_attn.v_proj": value,
        "self_attn.o_proj": layer.out.weight,
        "mlp.gate_proj": layer.gate.weight,
        "mlp.up_proj": layer.up.weight,
        "mlp.down_proj": layer.down.weight,
        "input_layernorm": layer.attention_norm.weight,
    }
    if layer.shape.post_norms:
        assert isinstance(layer.attention_post_norm.weight, Tensor)
        assert isinstance(layer.feed_forward_post_norm.weight, Tensor)
        destinations["post_attention_layernorm"] = layer.attention_post_norm.weight
        destinations["pre_feedforward_layernorm"] = layer.feed_forward_norm.weight
        destinations["post_feedforward_layernorm"] = layer.feed_forward_post_norm.weight
    else:
        destinations["post_attention_layernorm"] = layer.feed_forward_norm.weight
    return destinations


def dot(states: Tensor, row: Tensor) -> Tensor:
    """One logit for each state, in float32. *Shape:* (sequences, width) and (1, width) -> (sequences,)"""
    return torch.nn.functional.linear(states, row).float().squeeze(-1)


def _ranges(layers: Sequence[int]) -> str:
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))
