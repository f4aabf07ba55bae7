"""The publisher's tutorial with its import changed, and FlagEmbedding's arguments."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from typing import Any

import pytest
from tokenizers import Tokenizer

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
    assert [len(scores) for scores in several] == [4, 4]


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
    assert list(inspect.signature(kind).parameters) == [*constructor.split(), "kwargs"]
    assert list(inspect.signature(kind.compute_score).parameters)[1:] == [*call.split(), "kwargs"]


def test_formats_and_instructions() -> None:
    model = FlagReranker(
        ENCODER, query_instruction_for_rerank="Find", query_instruction_format="{}: <{}>",
        passage_instruction_for_rerank="Doc", passage_instruction_format="{}={}", devices="cpu",
    )  # fmt: skip
    plain = FlagReranker(ENCODER, devices="cpu")
    assert model.compute_score(("q", "p")) == plain.compute_score(("Find: <q>", "Doc=p"))


def test_neither_half_precision_warns_as_the_reference_does() -> None:
    with pytest.warns(UserWarning, match="float16 is used on a GPU"):
        layerwise = LayerWiseFlagLLMReranker(LAYERWISE, devices="cpu")
    with pytest.warns(UserWarning, match="float32 is used"):  # there too, where the warning says otherwise
        lightweight = LightWeightFlagLLMReranker(LIGHTWEIGHT, devices="cpu")
    assert (layerwise.use_fp16, lightweight.use_fp16) == (True, False)


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(CheckpointError, match="merge_and_unload"):
        FlagLLMReranker(LLM, peft_path="adapter", devices="cpu")
    with pytest.raises(DeviceError, match="cuda:99"):
        FlagReranker(ENCODER, devices=[99])
    model = FlagReranker(ENCODER, devices="cpu")
    with pytest.raises(TypeError, match="'max_lenght'"):  # FlagEmbedding's calls refuse what they do not know, too
        model.compute_score(PAIRS, max_lenght=32)
    with pytest.raises(TypeError, match=r"pairs\[1\] is 'pair'"):
        model.compute_score([("a", "pair"), "pair"])
    with pytest.raises(TypeError, match="sentence_pairs is 'text'"):
        model.compute_score("text")
    model.max_length = 0
    with pytest.raises(OptionError, match="max_length=0"):
        model.compute_score(PAIRS)


SNIPPETS = [  # the six of FlagEmbedding's reranker README, with tiny models and the CPU for its own
    (FlagAutoReranker.from_finetuned, ENCODER, {}),
    (FlagReranker, ENCODER, {}),
    (FlagReranker, ENCODER, {"normalize": True}),
    (FlagLLMReranker, LLM, {}),
    (LayerWiseFlagLLMReranker, LAYERWISE, {"cutoff_layers": [8]}),
    (LightWeightFlagLLMReranker, LIGHTWEIGHT, {"cutoff_layers": [8], "compress_ratio": 2, "compress_layers": [4, 6]}),
]


@pytest.mark.parametrize(("kind", "checkpoint", "call"), SNIPPETS)
def test_the_readmes_snippets(kind: Any, checkpoint: str, call: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="passage_max_length=512") as warned:
        reranker = kind(checkpoint, query_max_length=256, passage_max_length=512, use_fp16=True, devices=["cpu"])
    assert len(warned) == 1
    assert reranker.passage_max_length == 512
    (score,) = reranker.compute_score(["query", "passage"], **call)
    assert isinstance(score, float)
    assert len(reranker.compute_score([["what is panda?", "hi"], ["what is panda?", "A bear."]], **call)) == 2


EVALUATION = {  # what FlagEmbedding's AbsEvalRunner passes to whatever class it gets, its devices apart
    "peft_path": None, "use_bf16": False, "query_instruction_for_rerank": None, "query_instruction_format": r"{}\n{}",
    "passage_instruction_for_rerank": None, "passage_instruction_format": "{}{}", "cache_dir": None,
    "trust_remote_code": True, "normalize": False, "prompt": None, "cutoff_layers": None, "compress_layers": [8],
    "compress_ratio": 1, "batch_size": 3000, "query_max_length": None, "max_length": 64,
}  # fmt: skip


@pytest.mark.parametrize("checkpoint", [ENCODER, LLM, LAYERWISE, LIGHTWEIGHT])
def test_flagembeddings_evaluation_runs(checkpoint: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        reranker = FlagAutoReranker.from_finetuned(
            checkpoint, model_class=None, use_fp16=True, devices="cpu", **EVALUATION
        )
    assert [str(warning.message).split(":")[0] for warning in warned] == (
        [] if checkpoint == LIGHTWEIGHT else [type(reranker).__name__]
    )
    reranker.model.config._name_or_path = "owner/name"
    first = reranker.compute_score(PAIRS)
    reranker.stop_self_pool()
    assert reranker.compute_score(PAIRS) == first
    assert reranker.model.config._name_or_path == "owner/name"


def test_one_warning_names_all_that_has_no_effect_and_where_it_was_given() -> None:
    given: dict[str, Any] = {
        "passage_max_length": 512, "peft_path": "adapter", "cutoff_layers": [3], "compress_layers": [3],
        "device": "cuda:7", "pooling": "cls", "use_bf16": True,
    }  # fmt: skip
    with pytest.warns(UserWarning, match="FlagReranker: no effect has") as warned:
        model = FlagReranker(ENCODER, devices="cpu", **given)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    message = str(warned[0].message)
    for name, value in given.items():
        assert f"{name}={value!r} (" in message
        assert getattr(model, name) == value  # as there
    for remedy in ("use max_length", "use devices", "merged", "LayerWiseFlagLLMReranker", "use use_fp16"):
        assert remedy in message
    with pytest.warns(UserWarning, match=r"cutoff_layers=\[3\].*prompt='Same") as warned:
        scores = model.compute_score(PAIRS, cutoff_layers=[3], prompt="Same?", device=None)
    assert [warning.filename for warning in warned] == [__file__]
    assert scores == model.compute_score(PAIRS)


def test_the_model_explains_itself() -> None:
    model = FlagReranker(ENCODER, devices="cpu")
    assert model.model.config._name_or_path == ENCODER
    with pytest.raises(AttributeError, match="target_devices"):
        model.model.to("cpu")
    with pytest.raises(AttributeError, match=r"config\.json"):
        _ = model.model.config.hidden_size
    assert model.pool is None
    assert len(FlagReranker(ENCODER).target_devices) == 1
    assert not hasattr(model, "start_multi_process_pool")


def test_dataloaders_are_accepted() -> None:
    model = FlagLLMReranker(LLM, devices="cpu", trust_remote_code=True)
    assert model.compute_score(PAIRS, 1, use_dataloader=True, num_workers=2) == model.compute_score(PAIRS)


@pytest.mark.parametrize("kind", SIGNATURES)
def test_the_tokenizer_gives_the_ids_that_are_scored(kind: Any) -> None:
    family = kind.family
    model = kind(CHECKPOINTS / family, devices="cpu", use_fp16=True)
    texts = [text for pair in PAIRS for text in pair]
    ids = model.tokenizer(texts, add_special_tokens=False)["input_ids"]
    known = Tokenizer.from_file(str(CHECKPOINTS / family / "tokenizer.json"))
    assert ids == [known.encode(text, add_special_tokens=False).ids for text in texts]
    assert model.tokenizer.pad_token_id is not None
    assert model.tokenizer.pad({"input_ids": ids})["input_ids"]


def test_a_reranker_can_be_copied_and_pickled() -> None:
    model = FlagReranker(ENCODER, devices="cpu")
    model.max_length = 32
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.max_length == 32
        assert twin.model.config._name_or_path == ENCODER
        assert twin.compute_score(PAIRS) == model.compute_score(PAIRS)
