"""The publisher's tutorial with its import changed, and FlagEmbedding's arguments."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from bge_rerank_integrations import flag
from bge_rerank_integrations.errors import CheckpointError, DeviceError, OptionError, UnknownFamilyError
from bge_rerank_integrations.flag import (
    FlagAutoReranker,
    FlagLLMReranker,
    FlagReranker,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
)
from tests.conftest import CHECKPOINTS, FAMILIES

PAIRS = [
    ["What is the capital of France?", "Paris is the capital of France."],
    ["What is the capital of France?", "The population of China is over 1.4 billion people."],
    ["What is the population of China?", "Paris is the capital of France."],
    ["What is the population of China?", "The population of China is over 1.4 billion people."],
]
ENCODER, LLM, LAYERWISE, LIGHTWEIGHT = (str(CHECKPOINTS / family) for family in FAMILIES)
CPU = ["cpu"]


def test_the_tutorial_cells() -> None:
    model: Any = FlagReranker(ENCODER, use_fp16=True, devices=CPU)
    scores = model.compute_score(PAIRS)
    assert len(scores) == 4
    assert all(0 < score < 1 for score in model.compute_score(PAIRS, normalize=True))
    assert model.compute_score(["query", "passage"]) == pytest.approx(model.compute_score([["query", "passage"]]))

    model = FlagReranker(ENCODER, devices=CPU, query_max_length=256, batch_size=128, max_length=512, normalize=True)
    assert all(0 < score < 1 for score in model.compute_score(PAIRS))

    model = FlagLLMReranker(LLM, use_fp16=True, devices=CPU)
    assert len(model.compute_score(PAIRS)) == 4

    model = LayerWiseFlagLLMReranker(LAYERWISE, use_fp16=True, devices=CPU)
    assert len(model.compute_score(PAIRS, cutoff_layers=[8])) == 4

    model = LightWeightFlagLLMReranker(LIGHTWEIGHT, use_fp16=True, devices=CPU)
    assert len(model.compute_score(PAIRS, cutoff_layers=[8], compress_ratio=2, compress_layers=[4, 6])) == 4


def test_what_the_constructor_sets_is_the_calls_default() -> None:
    lightweight = LightWeightFlagLLMReranker(
        LIGHTWEIGHT, use_bf16=True, devices="cpu", cutoff_layers=[5], compress_layers=[4], compress_ratio=2,
        prompt="Same?", normalize=True, max_length=64,
    )  # fmt: skip
    plain = LightWeightFlagLLMReranker(LIGHTWEIGHT, use_fp16=True, devices="cpu")
    assert lightweight.compute_score(PAIRS) == pytest.approx(
        plain.compute_score(
            PAIRS,
            cutoff_layers=[5],
            compress_layers=[4],
            compress_ratio=2,
            prompt="Same?",
            normalize=True,
            max_length=64,
        )
    )
    assert lightweight.compute_score(PAIRS, compress_layer=[3]) == lightweight.compute_score(PAIRS, compress_layers=[3])


@pytest.mark.parametrize("kind", [LayerWiseFlagLLMReranker, LightWeightFlagLLMReranker])
def test_the_shape_of_the_result(kind: Any) -> None:
    model = kind(LAYERWISE if kind is LayerWiseFlagLLMReranker else LIGHTWEIGHT, use_fp16=True, devices=CPU)
    assert model.compute_score([]) == []
    assert isinstance(model.compute_score(("q", "p"))[0], float)
    assert isinstance(model.compute_score(PAIRS, cutoff_layers=[4])[0], float)
    several = model.compute_score(PAIRS, cutoff_layers=[8, 4, 8])
    assert [len(scores) for scores in several] == [4, 4, 4]


@pytest.mark.parametrize(("family", "kind"), list(zip(FAMILIES, flag.MODEL_CLASSES.values(), strict=True)))
def test_the_class_is_picked_by_what_is_in_the_checkpoint(family: str, kind: type) -> None:
    model = FlagAutoReranker.from_finetuned(CHECKPOINTS / family, use_fp16=True, devices="cpu", max_length=128)
    assert type(model) is kind
    assert model.scorer.options.max_length == 128


def test_the_class_by_name() -> None:
    model = FlagAutoReranker.from_finetuned(
        ENCODER, model_class="encoder-only-base", trust_remote_code=True, devices="cpu"
    )
    assert len(model.compute_score(PAIRS)) == 4
    with pytest.raises(OptionError, match="decoder-only-lightweight"):
        FlagAutoReranker.from_finetuned(ENCODER, model_class="magic")
    with pytest.raises(UnknownFamilyError):
        FlagAutoReranker.from_finetuned(ENCODER, model_class="decoder-only-base", devices="cpu")
    with pytest.raises(TypeError, match="from_finetuned"):
        FlagAutoReranker()


INSTRUCTIONS = (
    "query_instruction_for_rerank query_instruction_format passage_instruction_for_rerank passage_instruction_format"
)
SIZES = "batch_size query_max_length max_length"
LLM_START = f"model_name_or_path peft_path use_fp16 use_bf16 {INSTRUCTIONS} cache_dir trust_remote_code devices"
SIGNATURES = {  # FlagEmbedding 1.4.2: constructor, then call
    FlagReranker: (
        f"model_name_or_path use_fp16 {INSTRUCTIONS} trust_remote_code cache_dir devices {SIZES} normalize",
        f"sentence_pairs {SIZES} normalize",
    ),
    FlagLLMReranker: (
        f"{LLM_START} prompt {SIZES} normalize",
        f"sentence_pairs {SIZES} prompt normalize use_dataloader num_workers",
    ),
    LayerWiseFlagLLMReranker: (
        f"{LLM_START} cutoff_layers prompt {SIZES} normalize",
        f"sentence_pairs {SIZES} cutoff_layers prompt normalize use_dataloader num_workers",
    ),
    LightWeightFlagLLMReranker: (
        f"{LLM_START} cutoff_layers compress_layers compress_ratio prompt {SIZES} normalize",
        f"sentence_pairs {SIZES} cutoff_layers compress_layer compress_layers compress_ratio prompt normalize",
    ),
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_arguments_stand_where_flagembedding_has_them(kind: Any) -> None:
    constructor, call = SIGNATURES[kind]
    assert list(inspect.signature(kind).parameters) == constructor.split()
    assert list(inspect.signature(kind.compute_score).parameters)[1:] == call.split()


def test_formats_and_instructions() -> None:
    model = FlagReranker(
        ENCODER, query_instruction_for_rerank="Find", query_instruction_format="{}: <{}>",
        passage_instruction_for_rerank="Doc", passage_instruction_format="{}={}", devices="cpu",
    )  # fmt: skip
    plain = FlagReranker(ENCODER, devices="cpu")
    assert model.compute_score(("q", "p")) == plain.compute_score(("Find: <q>", "Doc=p"))


def test_neither_half_precision_warns_as_the_reference_does() -> None:
    with pytest.warns(UserWarning, match="use_fp16"):
        LayerWiseFlagLLMReranker(LAYERWISE, devices="cpu")


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(CheckpointError, match="merge_and_unload"):
        FlagLLMReranker(LLM, peft_path="adapter", devices="cpu")
    with pytest.raises(DeviceError, match="cuda:99"):
        FlagReranker(ENCODER, devices=[99])
    with pytest.raises(TypeError, match="batch"):
        FlagReranker(ENCODER, batch=3)  # type: ignore[call-arg]
