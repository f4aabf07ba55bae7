"""The decoder stack equals transformers' Gemma and Gemma 2, sequence by sequence and stretch by stretch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2Model, GemmaConfig, GemmaModel, PreTrainedModel

from bge_rerank_integrations.model.families.decoder_base import _layer_destinations
from bge_rerank_integrations.model.nn.decoder import DecoderShape, DecoderStack
from bge_rerank_integrations.model.nn.layout import Layout
from bge_rerank_integrations.model.nn.rotary import Rope

LENGTHS = (17, 3, 40, 1, 17, 17)
HEADS = [(4, 1, 16), (4, 2, 24), (3, 3, 32), (8, 4, 8)]
COMMON = {"vocab_size": 99, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "pad_token_id": 0}


def randomized(model: PreTrainedModel) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def stack_like(model: PreTrainedModel, shape: DecoderShape) -> DecoderStack:
    stack = DecoderStack(shape).eval().requires_grad_(False)
    state = model.state_dict()
    stack.words.weight.copy_(state.pop("embed_tokens.weight"))
    stack.norm.weight.copy_(state.pop("norm.weight"))
    for i, layer in enumerate(stack.layers):
        for name, place in _layer_destinations(layer).items():
            place.copy_(state.pop(f"layers.{i}.{name}"))
    assert not state
    return stack


def shape_of(config: Any, heads: tuple[int, int, int], **differences: Any) -> DecoderShape:
    return DecoderShape(
        vocabulary=99,
        width=48,
        layers=config.num_hidden_layers,
        heads=heads[0],
        kv_heads=heads[1],
        head_dim=heads[2],
        feed_forward=80,
        norm_eps=config.rms_norm_eps,
        activation="gelu_pytorch_tanh",
        ropes=[Rope(10000.0)] * config.num_hidden_layers,
        embedding_scale=48**0.5,
        norm_offset=1.0,
        **{"attention_scale": heads[2] ** -0.5} | differences,
    )


@torch.inference_mode()
def check(model: PreTrainedModel, stack: DecoderStack, softcap: float | None) -> None:
    generator = torch.Generator().manual_seed(4)
    sequences = [torch.randint(1, 99, (length,), generator=generator) for length in LENGTHS]
    expected = [model(input_ids=ids[None], use_cache=False).last_hidden_state[0] for ids in sequences]
    start = stack.embed(torch.cat(sequences), Layout(LENGTHS, torch.device("cpu")), softcap)

    whole = stack.finish(stack.run(start, 0, 4).hidden)
    torch.testing.assert_close(whole, torch.cat(expected), atol=1e-4, rtol=1e-4)

    stretches = stack.run(stack.run(start, 0, 1), 1, 3)
    last = stack.finish(stack.run_to_last(stretches, 3, 4))
    torch.testing.assert_close(last, torch.stack([hidden[-1] for hidden in expected]), atol=1e-4, rtol=1e-4)
    assert torch.equal(stack.run_to_last(stretches, 3, 3), ends(stretches.hidden))


def ends(hidden: Tensor) -> Tensor:
    return hidden[torch.tensor(LENGTHS).cumsum(0) - 1]


@pytest.mark.parametrize("heads", HEADS)
def test_gemma(heads: tuple[int, int, int]) -> None:
    config = GemmaConfig(
        **COMMON,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=heads[2],
        hidden_act="gelu_pytorch_tanh",
        attn_implementation="eager",
    )
    model = randomized(GemmaModel(config))
    check(model, stack_like(model, shape_of(config, heads)), None)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("window", [4096, 8])
def test_gemma_2(heads: tuple[int, int, int], softcap: float | None, window: int) -> None:
    config = Gemma2Config(
        **COMMON,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=heads[2],
        query_pre_attn_scalar=20,
        sliding_window=window,
        attn_logit_softcapping=softcap,
        attn_implementation="eager",
    )
    model = randomized(Gemma2Model(config))
    shape = shape_of(
        config, heads, attention_scale=20**-0.5, post_norms=True, windows=[window, None, window, None]
    )  # fmt: skip
    check(model, stack_like(model, shape), softcap)
