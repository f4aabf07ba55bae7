"""The llm family on every language model it runs: FlagEmbedding's scores, and transformers' own forward pass."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.prompts import PROMPTS
from tests.conftest import PARITY, pairs
from tests.llm_bases import ROWS, write_base, write_tokenizer

TEXTS = ["Paris is the capital of France.", "", "Bread and a passage. " * 30, "a"]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
BASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "rope_scaling": LLAMA3},
    "llama-linear": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 3.0}, "head_dim": 24},
    "mistral": {"model_type": "mistral", "sliding_window": 48, "rope_scaling": YARN | {"beta_fast": 16.0}},
    "mistral-no-window": {"model_type": "mistral", "sliding_window": None, "head_dim": 24},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen2-tied": {"model_type": "qwen2", "tie_word_embeddings": True, "rope_scaling": YARN | {"truncate": False}},
    "qwen3": {"model_type": "qwen3", "head_dim": 24, "attention_bias": True, "rope_scaling": YARN},
    "qwen3-tied": {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
    "gemma": {"model_type": "gemma", "head_dim": 24},
    "gemma2": {"model_type": "gemma2", "head_dim": 24, "sliding_window": 16, "attn_logit_softcapping": 4.0},
    "gemma2-no-caps": {"model_type": "gemma2", "attn_logit_softcapping": None, "final_logit_softcapping": None},
    "gemma3": {
        "model_type": "gemma3_text", "head_dim": 24, "sliding_window": 16, "sliding_window_pattern": 2,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gemma3-untied": {
        "model_type": "gemma3_text", "tie_word_embeddings": False, "rope_theta": 5000.0, "rope_local_base_freq": 100.0,
        "sliding_window": 16, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
}  # fmt: skip


@cache
def published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((PARITY / "bases.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", published()["cases"])
def test_scores_are_the_publishers(name: str, tmp_path: Path) -> None:
    case = published()["cases"][name]
    with load_scorer(write_base(tmp_path, case["config"], case["shapes"])) as scorer:
        assert scorer.family == "llm"
        some = pairs(published()["pairs"])
        assert scorer.score_pairs(some) == pytest.approx(case["scores"], abs=1e-4)
        assert scorer.with_options(max_length=24).score_pairs(some) == pytest.approx(case["short"], abs=1e-4)


def reference(folder: Path, query: str, texts: list[str]) -> list[float]:
    """Logits of "Yes" by transformers, of ids put together by hand."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    before = [] if settings["bos_token"] is None else [tokenizer.token_to_id(settings["bos_token"])]
    before += ids(f"A: {query}") + ids("\n")
    after = ids("\n") + ids(PROMPTS["answer_yes_no"])
    scores = []
    for text in texts:
        tokens = torch.tensor([[*before, *ids(f"B: {text}"), *after]])
        with torch.inference_mode():
            scores.append(model(input_ids=tokens).logits[0, -1, ids("Yes")[0]].item())
    return scores


def save(folder: Path, changes: dict[str, Any]) -> Path:
    """A checkpoint as transformers' trainer saves it."""
    sizes = {
        "vocab_size": ROWS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "max_position_embeddings": 1024,
    }  # fmt: skip
    if changes["model_type"] in ("gemma2", "gemma3_text"):
        sizes["query_pre_attn_scalar"] = 20
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{"head_dim": 16, **sizes, **changes}))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(folder)
    write_tokenizer(folder, changes["model_type"])
    return folder


@pytest.mark.parametrize("name", BASES)
def test_scores_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    query = "What is the capital of France?"
    expected = reference(save(tmp_path, BASES[name]), query, TEXTS)
    assert max(expected) - min(expected) > 0.01
    with load_scorer(tmp_path) as scorer:
        assert scorer.family == "llm"
        assert scorer.score(query, TEXTS) == pytest.approx(expected, abs=1e-4)
        assert [scorer.score(query, [text])[0] for text in TEXTS] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", BASES)
def test_the_same_config_as_it_is_published(name: str, tmp_path: Path) -> None:
    """Keys as the hub's files have them, where transformers 5 writes others."""
    expected = reference(save(tmp_path, BASES[name]), "q", TEXTS)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    for key in ("rope_parameters", "layer_types"):
        saved.pop(key, None)
    path.write_text(json.dumps(saved | BASES[name]))
    with load_scorer(tmp_path) as scorer:
        assert scorer.score("q", TEXTS) == pytest.approx(expected, abs=1e-4)
