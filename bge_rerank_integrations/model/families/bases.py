"""The language models that rerankers of the llm family are made from: what each one's config.json says of the stack.

A new base is a class here and a line in `BASES`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bge_rerank_integrations.model.checkpoint import Positive
from bge_rerank_integrations.model.families.decoder_base import DecoderConfig
from bge_rerank_integrations.model.families.rotations import Rotation, read_rotations
from bge_rerank_integrations.model.nn.decoder import DecoderShape

LayerKind = Literal["full_attention", "sliding_attention"]
Window = Annotated[int, Field(ge=1, le=1 << 40)]


class Base(DecoderConfig):
    """The keys of config.json that several bases have, with the most common defaults of their configuration classes."""

    hidden_act: str = "silu"
    sliding_window: Window | None = None
    layer_types: list[LayerKind] | None = None
    attn_logit_softcapping: Positive | None = None
    final_logit_softcapping: Positive | None = None

    @property
    def activation(self) -> str:
        return self.hidden_act

    @property
    def layer_kinds(self) -> list[str]:
        if self.layer_types is not None:
            return [*self.layer_types]
        return [self.kind_of_layer(index) for index in range(self.num_hidden_layers)]

    def kind_of_layer(self, index: int) -> LayerKind:
        """The kind of a layer where no list names it."""
        return "full_attention"

    @model_validator(mode="after")
    def _lists_every_layer(self) -> Base:
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(f"layer_types has {len(self.layer_types)} entries for {self.num_hidden_layers} layers")
        return self

    @property
    def biases(self) -> frozenset[str]:
        """Which matrix products add a bias, by their names in `nn.decoder`."""
        return frozenset({"query", "key_value", "out"} if self.attention_bias else ())

    @property
    def differences(self) -> dict[str, Any]:
        """What else `DecoderShape` does not have by default."""
        return {}

    @property
    def logit_scale(self) -> float:
        """Factor on the logits."""
        return 1.0

    def stack_shape(self, depth: int) -> DecoderShape:
        windows = [self.sliding_window if kind == "sliding_attention" else None for kind in self.layer_kinds]
        return self.shape(depth, windows=windows, biases=self.biases, **self.differences)


class Llama(Base):
    mlp_bias: bool = False

    @property
    def biases(self) -> frozenset[str]:
        return super().biases | ({"gate", "up", "down"} if self.mlp_bias else frozenset())


class Mistral(Base):
    sliding_window: Window | None = 4096

    def kind_of_layer(self, index: int) -> LayerKind:
        return "sliding_attention"


class Qwen(Base):
    use_sliding_window: bool = False
    sliding_window: Window | None = 4096
    max_window_layers: Annotated[int, Field(ge=0)] = 28

    def kind_of_layer(self, index: int) -> LayerKind:
        slides = self.use_sliding_window and index >= self.max_window_layers
        return "sliding_attention" if slides else "full_attention"


class Qwen2(Qwen):
    @property
    def biases(self) -> frozenset[str]:
        return frozenset({"query", "key_value"})


class Qwen3(Qwen):
    @property
    def differences(self) -> dict[str, Any]:
        return {"query_key_norms": True}


class Gemma(Base):
    """Gemma's `hidden_act` says "gelu" where the tanh form is meant: it is not read."""

    hidden_activation: str | None = None

    @property
    def activation(self) -> str:
        return self.hidden_activation or "gelu_pytorch_tanh"

    @property
    def differences(self) -> dict[str, Any]:
        return {"embedding_scale": self.hidden_size**0.5, "norm_offset": 1.0}


class Gemma2(Gemma):
    query_pre_attn_scalar: Positive = 256.0
    sliding_window: Window | None = 4096
    attn_logit_softcapping: Positive | None = 50.0
    final_logit_softcapping: Positive | None = 30.0

    def kind_of_layer(self, index: int) -> LayerKind:
        return "full_attention" if index % 2 else "sliding_attention"

    @property
    def differences(self) -> dict[str, Any]:
        own = {"post_norms": True, "attention_scale": self.query_pre_attn_scalar**-0.5}
        return super().differences | own


class Gemma3(Gemma2):
    """Layers that see everything turn their heads more slowly than those that see the nearest tokens."""

    rope_theta: Positive = 1_000_000.0
    rope_local_base_freq: Positive = 10_000.0
    sliding_window_pattern: Annotated[int, Field(ge=1)] = 6
    attn_logit_softcapping: Positive | None = None
    final_logit_softcapping: Positive | None = None
    use_bidirectional_attention: bool | None = False

    @model_validator(mode="after")
    def _causal(self) -> Gemma3:
        if self.use_bidirectional_attention:
            raise ValueError("use_bidirectional_attention true: only tokens that do not see later ones are known")
        return self

    def kind_of_layer(self, index: int) -> LayerKind:
        return "sliding_attention" if (index + 1) % self.sliding_window_pattern else "full_attention"

    @property
    def rotations(self) -> dict[str, Rotation]:
        thetas = {"full_attention": self.rope_theta, "sliding_attention": self.rope_local_base_freq}
        given = self.rope_parameters or {"full_attention": self.rope_scaling or {}, "sliding_attention": {}}
        return read_rotations(given, thetas)

    @property
    def differences(self) -> dict[str, Any]:
        return super().differences | {"query_key_norms": True}


class MiniCPM(Base):
    scale_emb: Positive = 1.0
    scale_depth: Positive = 1.0
    dim_model_base: Positive = 1.0

    @property
    def differences(self) -> dict[str, Any]:
        return {
            "embedding_scale": self.scale_emb,
            "residual_scale": self.scale_depth / self.num_hidden_layers**0.5,
        }

    @property
    def logit_scale(self) -> float:
        return self.dim_model_base / self.hidden_size


BASES: dict[str, type[Base]] = {
    "gemma": Gemma,
    "gemma2": Gemma2,
    "gemma3_text": Gemma3,
    "llama": Llama,
    "minicpm": MiniCPM,
    "mistral": Mistral,
    "qwen2": Qwen2,
    "qwen3": Qwen3,
}
"""By what config.json says as `model_type`."""
