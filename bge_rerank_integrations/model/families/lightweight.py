"""lightweight: bge-reranker-v2.5-gemma2-lightweight, a Gemma 2 with many heads and passages merged on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor, nn

from bge_rerank_integrations.engine.work import Recipe
from bge_rerank_integrations.errors import OptionError, UnknownFamilyError
from bge_rerank_integrations.model.checkpoint import Checkpoint, Count, Positive
from bge_rerank_integrations.model.families.decoder_base import CutoffConfig, CutoffFamily, DecoderModel, dot
from bge_rerank_integrations.model.nn.decoder import DecoderShape, Stream
from bge_rerank_integrations.model.packing import Merge, PackedBatch
from bge_rerank_integrations.model.weights import Target
from bge_rerank_integrations.options import HeadIndex, ScoringOptions
from bge_rerank_integrations.prompts import PROMPTS


class CostWiseGemmaConfig(CutoffConfig):
    """The keys of config.json, with the defaults of the publisher's configuration class."""

    hidden_activation: str = "gelu_pytorch_tanh"
    query_pre_attn_scalar: Positive
    sliding_window: int | None = Field(default=None, ge=1, le=1 << 40)
    attn_logit_softcapping: Positive | None = None
    final_logit_softcapping: Positive | None = None
    start_layer: Count
    layer_sep: Count = 1
    layer_wise: bool = True

    @property
    def activation(self) -> str:
        return self.hidden_activation


@dataclass(frozen=True)
class LightweightRecipe(Recipe):
    """And where passages are merged, which heads score, and whether attention is capped."""

    compress_ratio: int = 1
    compress_layers: tuple[int, ...] = ()
    head_index: HeadIndex = "position"
    attention_softcap: bool = False


class LightweightFamily(CutoffFamily):
    name = "lightweight"
    model_types = ("cost_wise_gemma", "gemma2")
    options = frozenset(
        {"prompt", "cutoff_layer", "compress_ratio", "compress_layers", "head_index", "attention_softcap"}
    )
    default_prompt = PROMPTS["answer"]

    @classmethod
    def claims(cls, checkpoint: Checkpoint) -> bool:
        # a plain Gemma 2 is of the llm family
        return super().claims(checkpoint) and ("start_layer" in checkpoint.config or checkpoint.model_type != "gemma2")

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.config: CostWiseGemmaConfig = checkpoint.read_config(CostWiseGemmaConfig)
        if not self.config.layer_wise:
            raise UnknownFamilyError(
                f"{checkpoint.folder}: layer_wise false: only models with heads after several layers are known"
            )
        self.check_start(self.config.start_layer)

    @property
    def allowed_cutoffs(self) -> tuple[int, ...]:
        return tuple(range(self.config.start_layer, self.config.num_hidden_layers + 1, self.config.layer_sep))

    def shared_pass(self, options: ScoringOptions) -> ScoringOptions:
        shared = super().shared_pass(options)
        # by position, a cutoff's head depends on which others are asked for
        return shared if options.head_index == "layer" else replace(shared, cutoff_layer=options.cutoff_layer)

    def check(self, options: ScoringOptions) -> None:
        """Refuse compression that this model cannot show, whatever the cutoff; past a cutoff it may stay."""
        super().check(options)
        layers, count = self.recipe(options).compress_layers, self.config.num_hidden_layers
        if options.compress_ratio > 1 and (not any(layers) or max(layers) >= count):
            raise OptionError(
                f"compress_layers={options.compress_layers} with compress_ratio={options.compress_ratio}: this model "
                f"can merge before layers 1 to {count - 1}, counted from 0"
            )

    def check_effect(self, options: ScoringOptions) -> None:
        super().check_effect(options)
        recipe = self.recipe(options)
        depth = recipe.depth(self.config.num_hidden_layers)
        if options.compress_ratio > 1 and not any(0 < layer < depth for layer in recipe.compress_layers):
            raise OptionError(
                f"compress_ratio={options.compress_ratio} merges nothing: of compress_layers={options.compress_layers} "
                f"none lies between layer 0 and the {depth} layers that are run"
            )

    def recipe(self, options: ScoringOptions, cutoffs: Sequence[int] | None = None) -> LightweightRecipe:
        layers = options.compress_layers
        assert not isinstance(layers, int)  # the options made it a tuple
        return LightweightRecipe(
            cutoffs=self.cutoffs(options, cutoffs),
            compress_ratio=options.compress_ratio,
            compress_layers=tuple(layers) if options.compress_ratio > 1 else (),
            head_index=options.head_index,
            attention_softcap=options.attention_softcap,
        )

    def build(self, depth: int) -> LightweightModel:
        config = self.config
        shape = config.shape(
            depth,
            attention_scale=config.query_pre_attn_scalar**-0.5,
            embedding_scale=config.hidden_size**0.5,
            norm_offset=1.0,
            post_norms=True,
            # every other layer, from the first on, sees only the nearest tokens
            windows=[config.sliding_window if i % 2 == 0 else None for i in range(config.num_hidden_layers)],
        )
        return LightweightModel(shape, config, len(self.allowed_cutoffs))


class LightweightModel(DecoderModel):
    """The stack, run in stretches between cutoffs and compressions, and one head for each allowed cutoff."""

    def __init__(self, shape: DecoderShape, config: CostWiseGemmaConfig, heads: int) -> None:
        super().__init__(shape, config.num_hidden_layers)
        self.config = config
        self.heads = nn.Parameter(torch.empty(heads, 1, shape.width))

    def ratios(self, recipe: Recipe) -> tuple[int, ...]:
        assert isinstance(recipe, LightweightRecipe)
        return (recipe.compress_ratio,) * len(_merge_layers(recipe))

    def score(self, batch: PackedBatch, recipe: Recipe) -> Tensor:
        assert isinstance(recipe, LightweightRecipe)
        softcap = self.config.attn_logit_softcapping if recipe.attention_softcap else None
        stream = self.stack.embed(batch.ids, batch.layout, softcap)
        deepest = max(recipe.cutoffs)
        merges = dict(zip(_merge_layers(recipe), batch.merges, strict=True))
        states: dict[int, Tensor] = {}
        done = 0
        for stop in sorted({*recipe.cutoffs, *merges}):
            if stop == deepest:
                states[stop] = self.stack.run_to_last(stream, done, stop)
                break
            stream = self.stack.run(stream, done, stop)
            if stop in recipe.cutoffs:
                states[stop] = stream.hidden[stream.layout.last]
            if stop in merges:
                stream = merge_passages(stream, merges[stop])
            done = stop
        scores = [
            self._head(position, cutoff, states[cutoff], recipe) for position, cutoff in enumerate(recipe.cutoffs)
        ]
        return torch.stack(scores, 1)

    def _head(self, nth: int, cutoff: int, state: Tensor, recipe: LightweightRecipe) -> Tensor:
        by_layer = (cutoff - self.config.start_layer) // self.config.layer_sep
        head = self.heads[nth if recipe.head_index == "position" else by_layer]
        score = dot(self.stack.finish(state), head)
        cap = self.config.final_logit_softcapping
        return score if cap is None else cap * torch.tanh(score / cap)

    def targets(self) -> dict[str, Target]:
        targets = self.stack_targets()
        for i, head in enumerate(self.heads):
            targets[f"lm_head.{i}.linear_head.weight"] = Target.whole(head)
        return targets


def _merge_layers(recipe: LightweightRecipe) -> list[int]:
    """Before which layers a forward pass merges passages, ascending."""
    return sorted({layer for layer in recipe.compress_layers if 0 < layer < max(recipe.cutoffs)})


def merge_passages(stream: Stream, merge: Merge) -> Stream:
    """Average the states of each group, in the order of its tokens and in float32, whatever their dtype.

    `index_add_`, which would do, adds in bfloat16 and, on a GPU, in any order.
    """
    hidden, tokens = stream.hidden, torch.arange(stream.layout.tokens, device=stream.hidden.device)
    means = torch.nn.functional.embedding_bag(tokens, hidden, merge.starts, mode="mean")
    return replace(stream, hidden=means, layout=merge.layout)
