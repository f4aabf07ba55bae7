"""The migration guide's tables about FlagEmbedding, line by line: each test's docstring is the line that it holds.

FlagEmbedding itself needs another transformers than these tests; what it gives is in test_flag_values.py.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.flag import (
    FlagLLMReranker,
    FlagReranker,
    LightWeightFlagLLMReranker,
)
from bge_rerank_integrations.langchain import BGERerank
from bge_rerank_integrations.prompts import PROMPTS
from tests.conftest import CHECKPOINTS, FAMILIES
from tests.integration.test_flag_values import KINDS, PAIRS, PLAIN, near

SECTION = (
    (Path(__file__).parents[2] / "docs" / "migrating.md")
    .read_text(encoding="utf-8")
    .partition("## From FlagEmbedding\n")[2]
    .partition("\n## ")[0]
)
ENCODER, LLM, LAYERWISE, LIGHTWEIGHT = (str(CHECKPOINTS / family) for family in FAMILIES)
families = pytest.mark.parametrize("family", FAMILIES)


def flag(family: str, **arguments: Any) -> Any:
    kind: Any = KINDS[family]
    return kind(CHECKPOINTS / family, use_fp16=True, **({"devices": "cpu"} | arguments))


def test_every_line_has_its_test() -> None:
    rows = [re.split(r"(?<!\\)\|", row)[1].strip() for row in SECTION.splitlines() if row.startswith("| ")]
    written = [row for row in rows if row not in ("", "---", "FlagEmbedding")]
    tested = [test.__doc__ for name, test in globals().items() if name.startswith("test_") and test.__doc__]
    assert sorted(tested) == sorted(written)


# --- what is different -----------------------------------------------------------------------------------------------


@families
def test_scores(family: str) -> None:
    """Scores"""
    assert flag(family).compute_score(PAIRS) == near(PLAIN[family])


@families
def test_transformers(family: str) -> None:
    """transformers 5"""
    assert int(transformers.__version__.split(".")[0]) >= 5
    assert flag(family).compute_score(PAIRS) == near(PLAIN[family])


def test_pairs() -> None:
    """Pairs"""
    model = flag("encoder")
    queries, passages = zip(*PAIRS, strict=True)
    assert model.compute_score(zip(queries, passages, strict=True)) == near(PLAIN["encoder"])
    assert model.compute_score(pair for pair in PAIRS) == near(PLAIN["encoder"])
    for given in ("qp", [["q", "p"], "qp"]):
        with pytest.raises(TypeError, match="'qp'"):
            model.compute_score(given)


@families
def test_no_pairs(family: str) -> None:
    """No pairs"""
    assert flag(family).compute_score([]) == []


def test_devices_none() -> None:
    """`devices=None`"""
    assert len(flag("encoder", devices=None).target_devices) == 1
    several = flag("encoder", devices=["cpu", "cpu"])
    assert isinstance(several.compute_score(PAIRS), numpy.ndarray)
    assert several.pool is None
    several.stop_self_pool()


def test_several_layers_on_several_devices() -> None:
    """Several cutoff layers on several devices"""
    for family in ("layerwise", "lightweight"):
        one, two = flag(family), flag(family, devices=["cpu", "cpu"])
        scores = two.compute_score(PAIRS, cutoff_layers=[4, 8])
        assert scores.tolist() == [near(row) for row in one.compute_score(PAIRS, cutoff_layers=[4, 8])]
        two.stop_self_pool()


def test_order_of_cutoff_layers() -> None:
    """`cutoff_layers=[8, 4]` on layerwise"""
    model = flag("layerwise")
    both = model.compute_score(PAIRS, cutoff_layers=[8, 4])
    assert both == model.compute_score(PAIRS, cutoff_layers=[4, 8])
    assert both == [near(model.compute_score(PAIRS, cutoff_layers=[layer])) for layer in (4, 8)]


def test_compress_ratio() -> None:
    """`compress_ratio`"""
    model = flag("lightweight", compress_layers=[4])
    for ratio in (1, 2, 4, 8):
        assert len(model.compute_score(PAIRS, compress_ratio=ratio)) == len(PAIRS)
    for ratio in (0, 3, 16):
        with pytest.raises(OptionError, match=f"compress_ratio={ratio}"):
            model.compute_score(PAIRS, compress_ratio=ratio)


def test_a_query_that_fills_max_length() -> None:
    """A query that fills `max_length` alone"""
    model, query = flag("encoder"), "where does the giant panda live in China? " * 4
    first, second = model.compute_score([[query, "The giant panda"], [query, "The"]], max_length=16)
    assert first == second


def test_prompt() -> None:
    """`prompt`"""
    model = flag("llm")
    for name, text in PROMPTS.items():
        assert model.compute_score(PAIRS, prompt=name) == model.compute_score(PAIRS, prompt=text)


def test_arguments_of_other_classes() -> None:
    """Arguments of other classes in a call"""
    model = flag("encoder")
    with pytest.warns(UserWarning, match="compress_ratio=2"):
        assert model.compute_score(PAIRS, compress_ratio=2) == near(PLAIN["encoder"])
    with pytest.raises(TypeError, match="'normalise'"):
        model.compute_score(PAIRS, normalise=True)


def test_what_plans_batches() -> None:
    """`batch_size`, `use_dataloader`, `num_workers`"""
    given = {"batch_size": 1, "use_dataloader": True, "num_workers": 3}
    assert flag("llm", batch_size=7).compute_score(PAIRS, **given) == near(PLAIN["llm"])


def test_remote_code(copy: Callable[..., Any], tmp_path: Path) -> None:
    """`trust_remote_code`"""
    folder = copy("encoder").folder
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    assert FlagReranker(folder, trust_remote_code=True, devices="cpu").compute_score(PAIRS) == near(PLAIN["encoder"])
    assert not (tmp_path / "ran").exists()


def test_peft_path(tmp_path: Path) -> None:
    """`peft_path`"""
    name = "model.layers.1.self_attn.q_proj"
    with safe_open(Path(LLM) / "model.safetensors", "pt") as stored:
        rows, columns = stored.get_slice(f"{name}.weight").get_shape()
    factors = {"A": torch.full((2, columns), 0.1), "B": torch.full((rows, 2), 0.1)}
    save_file(
        {f"base_model.model.{name}.lora_{factor}.weight": tensor for factor, tensor in factors.items()},
        tmp_path / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": LLM, "r": 2, "lora_alpha": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="give that folder as model_name_or_path"):
        FlagLLMReranker(LLM, peft_path=str(tmp_path), devices="cpu")
    scores = FlagLLMReranker(tmp_path, devices="cpu").compute_score(PAIRS)
    assert len(scores) == len(PAIRS)
    assert scores != near(PLAIN["llm"])


@families
def test_half_precision(family: str) -> None:
    """Half precision"""
    for half in ("use_fp16", "use_bf16"):
        if family == "encoder" and half == "use_bf16":  # which has no such argument there either
            continue
        kind: Any = KINDS[family]
        model = kind(CHECKPOINTS / family, devices="cpu", **({"use_fp16": False} | {half: True}))
        assert model.compute_score(PAIRS) == near(PLAIN[family])


def test_model_and_tokenizer() -> None:
    """`model`, `tokenizer`"""
    model = flag("encoder")
    assert model.model.config._name_or_path == str(CHECKPOINTS / "encoder")
    with pytest.raises(AttributeError, match="use_fp16 for where and how it runs, compute_score for scores"):
        model.model.half()
    assert isinstance(model.tokenizer, transformers.PreTrainedTokenizerBase)


@pytest.mark.parametrize("kind", KINDS.values())
def test_pools(kind: type) -> None:
    """`start_multi_process_pool`, `encode_multi_process`"""
    assert not hasattr(kind, "start_multi_process_pool")
    assert not hasattr(kind, "encode_multi_process")


# --- the names of arguments ------------------------------------------------------------------------------------------


def test_name_of_the_model() -> None:
    """`model_name_or_path`"""
    with load_scorer(model=ENCODER) as scorer:
        assert scorer.score_pairs(PAIRS) == near(PLAIN["encoder"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_name_of_half_precision(dtype: Any) -> None:
    """`use_fp16=True`, `use_bf16=True`"""
    with load_scorer(ENCODER, dtype=dtype, devices="cpu") as scorer:
        scores = scorer.score_pairs(PAIRS)
    assert scores == pytest.approx(PLAIN["encoder"], abs=0.05)
    assert scores != pytest.approx(PLAIN["encoder"], abs=1e-6)
    assert BGERerank(model=ENCODER, dtype=dtype).dtype == dtype


def test_name_of_normalize() -> None:
    """`normalize=True`"""
    with load_scorer(ENCODER, scale="sigmoid") as scorer:
        assert scorer.score_pairs(PAIRS) == near(flag("encoder").compute_score(PAIRS, normalize=True))


def test_names_of_instructions() -> None:
    """`query_instruction_for_rerank`, `passage_instruction_for_rerank`"""
    model = flag("encoder", query_instruction_for_rerank="Find: ", passage_instruction_for_rerank="Text: ")
    with load_scorer(ENCODER, query_instruction="Find: ", passage_instruction="Text: ") as scorer:
        assert scorer.score_pairs(PAIRS) == near(model.compute_score(PAIRS))


def test_name_of_cutoff_layers() -> None:
    """`cutoff_layers=[28]`"""
    model = flag("layerwise")
    with load_scorer(LAYERWISE, cutoff_layer=5) as scorer:
        assert scorer.score_pairs(PAIRS) == near(model.compute_score(PAIRS, cutoff_layers=[5]))
        by_layer = scorer.score_layers(PAIRS, [4, 8])
    assert list(by_layer.values()) == [near(scores) for scores in model.compute_score(PAIRS, cutoff_layers=[4, 8])]


def test_names_that_are_the_same() -> None:
    """`compress_ratio`, `compress_layers`, `prompt`, `max_length`, `query_max_length`, `devices`, `cache_dir`"""
    own = ["compress_ratio", "compress_layers", "prompt", "max_length", "query_max_length", "devices", "cache_dir"]
    for where in (LightWeightFlagLLMReranker, load_scorer):
        assert set(own) <= set(inspect.signature(where).parameters)
    assert set(own) <= set(BGERerank.model_fields)
    options: Any = {"compress_ratio": 2, "compress_layers": [4], "prompt": "Same?", "max_length": 40,
                    "query_max_length": 20, "devices": "cpu"}  # fmt: skip
    with load_scorer(LIGHTWEIGHT, **options) as scorer:
        assert scorer.score_pairs(PAIRS) == near(flag("lightweight", **options).compute_score(PAIRS))


def test_name_of_the_batch_size() -> None:
    """`batch_size`"""
    with load_scorer(ENCODER, token_budget=16) as scorer:
        assert scorer.score_pairs(PAIRS) == near(PLAIN["encoder"])
    assert "token_budget" in BGERerank.model_fields


def test_name_of_compute_score() -> None:
    """`compute_score(pairs)`"""
    pairs = [[PAIRS[0][0], passage] for _, passage in PAIRS]
    with load_scorer(LAYERWISE) as scorer:
        wanted = near(flag("layerwise").compute_score(pairs))
        assert scorer.score_pairs(pairs) == wanted
        assert scorer.score(PAIRS[0][0], [passage for _, passage in pairs]) == wanted
