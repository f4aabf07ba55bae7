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
from bge_rerank_integrations.model.families.rotations import Rotation, read_rotations
from bge_rerank_integrations.model.inputs import DecoderInputs, Limits, PairEncoder, tokenize
from bge_rerank_integrations.model.nn.activations import ACTIVATIONS
from bge_rerank_integrations.model.nn.decoder import DecoderLayer, DecoderShape, DecoderStack
from bge_rerank_integrations.model.nn.rotary import Rope
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.options import ScoringOptions, whole_number
from bge_rerank_integrations.prompts import PROMPTS

SEPARATOR = "\n"


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
    def layer_kinds(self) -> list[str]:
        """For each layer, what kind it is of, where config.json tells kinds apart."""
        return ["full_attention"] * self.num_hidden_layers

    @property
    def rotations(self) -> dict[str, Rotation]:
        """The rotary positions of each kind of layer; or of all, by whatever name."""
        given = self.rope_parameters or self.rope_scaling or {}
        return read_rotations(given, {"full_attention": self.rope_theta})

    @property
    def ropes(self) -> list[Rope]:
        """The rotary positions of each layer."""
        by_kind = {kind: each.rope(self.max_position_embeddings) for kind, each in self.rotations.items()}
        if len({*by_kind.values()}) == 1:
            return [*by_kind.values()][:1] * self.num_hidden_layers
        if missing := {*self.layer_kinds} - {*by_kind}:
            raise ValueError(f"rope_parameters has no numbers for layers of the kind {min(missing)!r}")
        return [by_kind[kind] for kind in self.layer_kinds]

    @model_validator(mode="after")
    def _fits(self) -> DecoderConfig:
        if self.num_attention_heads % self.kv_heads:
            raise ValueError(f"{self.num_attention_heads} heads cannot share {self.kv_heads} key-value heads evenly")
        if self.size_of_head % 2 or not self.size_of_head:
            raise ValueError(f"head_dim {self.size_of_head}: rotary positions need an even one")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        assert self.ropes  # which raises where they are not known
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
            "ropes": self.ropes,
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

    def inputs(self, options: ScoringOptions, limits: Limits) -> PairEncoder:
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
        if (prompt := self.checkpoint.settings.query_prompt) and self.asks_itself:
            raise CheckpointError(
                f"{self.checkpoint.folder}: config_sentence_transformers.json puts the prompt {prompt!r} before each "
                f"query, which the {self.name} family, with a prompt of its own, cannot: remove default_prompt_name "
                "there, and give query_instruction instead if it is to be so"
            )

    @property
    def asks_itself(self) -> bool:
        """Whether the prompt is the family's own."""
        return True

    def yes_token(self) -> int:
        """The first token of "Yes", whose logit the score is where the head has a row for every token."""
        (ids,) = tokenize(self.checkpoint.tokenizer, ["Yes"])
        if not ids or ids[0] >= self.config.vocab_size:
            raise CheckpointError(
                f"{self.checkpoint.folder}: the tokenizer gives 'Yes' no token of the model's vocabulary"
            )
        return ids[0]


class CutoffConfig(DecoderConfig):
    """Of models with a stack of the publisher's own, which knows plain rotary positions and no biases."""

    @model_validator(mode="after")
    def _plain(self) -> CutoffConfig:
        kinds = self.rotations.values()
        if scaled := [numbers.kind for numbers in kinds if numbers.kind != "default"]:
            raise ValueError(f"rope_parameters of type {scaled[0]!r}: this family knows only plain rotary positions")
        if len({numbers.rope_theta for numbers in kinds}) > 1:
            raise ValueError("rope_parameters has several rope_theta: this family knows only one for all layers")
        if self.attention_bias:
            raise ValueError("attention_bias true: this family knows no biases")
        return self


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
                targets[f"model.layers.{i}.{name}"] = Target(destination if built else None, tuple(destination.shape))
        return targets


def _layer_destinations(layer: nn.Module) -> dict[str, Tensor]:
    """The parameters of a layer, by their names in a checkpoint."""
    assert isinstance(layer, DecoderLayer)
    names = {
        "self_attn.q_proj": layer.query,
        "self_attn.o_proj": layer.out,
        "mlp.gate_proj": layer.gate,
        "mlp.up_proj": layer.up,
        "mlp.down_proj": layer.down,
        "self_attn.q_norm": layer.query_norm,
        "self_attn.k_norm": layer.key_norm,
        "input_layernorm": layer.attention_norm,
    }
    if layer.shape.post_norms:
        names["post_attention_layernorm"] = layer.attention_post_norm
        names["pre_feedforward_layernorm"] = layer.feed_forward_norm
        names["post_feedforward_layernorm"] = layer.feed_forward_post_norm
    else:
        names["post_attention_layernorm"] = layer.feed_forward_norm
    destinations: dict[str, Tensor] = {}
    for kind, both in layer.key_value.named_parameters():
        destinations[f"self_attn.k_proj.{kind}"], destinations[f"self_attn.v_proj.{kind}"] = both.chunk(2)
    for name, module in names.items():
        destinations |= {f"{name}.{kind}": parameter for kind, parameter in module.named_parameters()}
    return destinations


def dot(states: Tensor, row: Tensor) -> Tensor:
    """One logit for each state, in float32. *Shape:* (sequences, width) and (1, width) -> (sequences,)"""
    return torch.nn.functional.linear(states, row).float().squeeze(-1)


def _ranges(layers: Sequence[int]) -> str:
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))
