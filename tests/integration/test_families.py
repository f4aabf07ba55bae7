"""Each family with its own options, through both adapters, and what loading one costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode
from safetensors.torch import save_file

from bge_rerank_integrations import langchain, llama_index, load_scorer
from bge_rerank_integrations.model.replica import Replica
from tests.conftest import CHECKPOINTS, golden, pairs


def cases() -> list[dict[str, Any]]:
    """The goldens of single cutoffs on texts whose outer white space LangChain and LlamaIndex leave alone."""
    return [case for case in golden()["cases"] if case["pairs"] == "mixed" and not isinstance(case["scores"][0], list)]


def fields_of(case: dict[str, Any]) -> dict[str, Any]:
    call, init = dict(case["call"]), case["init"]
    fields: dict[str, Any] = {"scale": "sigmoid"} if call.pop("normalize", False) else {}
    if cutoffs := call.pop("cutoff_layers", None):
        (fields["cutoff_layer"],) = cutoffs
    for name in ("query_instruction", "passage_instruction"):
        if f"{name}_for_rerank" in init:
            fields[name] = init[f"{name}_for_rerank"]
    return fields | call


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case['family']}-{case['init'] | case['call']}")
def test_every_option_in_both_adapters(case: dict[str, Any]) -> None:
    options: dict[str, Any] = {
        "model": str(CHECKPOINTS / case["family"]), "top_n": None, "devices": "cpu", **fields_of(case)
    }  # fmt: skip
    compressor, postprocessor = langchain.BGERerank(**options), llama_index.BGERerank(**options)
    for (query, text), expected in list(zip(pairs("mixed"), case["scores"], strict=True))[:6]:
        (document,) = compressor.compress_documents([Document(text)], query)
        assert document.metadata["relevance_score"] == pytest.approx(expected, abs=1e-4)
        (node,) = postprocessor.postprocess_nodes([NodeWithScore(node=TextNode(text=text))], query_str=query)
        assert node.score == pytest.approx(expected, abs=1e-4)
    compressor.close()
    postprocessor.close()


@pytest.mark.parametrize("adapter", [langchain.BGERerank, llama_index.BGERerank])
def test_an_impossible_layer_is_refused_on_load(adapter: Any) -> None:
    reranker = adapter(model=str(CHECKPOINTS / "layerwise"), cutoff_layer=2)
    with pytest.raises(ValueError, match="3 to 8"):
        reranker.warm_up()
    reranker.cutoff_layer = 8  # and once it is mended, the same adapter works
    reranker.warm_up()


@pytest.mark.parametrize("family", ["layerwise", "lightweight"])
def test_layers_past_the_cutoff_are_loaded_only_when_needed(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    depths: list[int] = []
    load = Replica._load

    def recording(replica: Replica, depth: int) -> None:
        load(replica, depth)
        assert replica.model is not None
        depths.append(len(replica.model.stack.layers))  # type: ignore[union-attr, arg-type]

    monkeypatch.setattr(Replica, "_load", recording)
    few = pairs("france")
    with load_scorer(CHECKPOINTS / family, cutoff_layer=3) as shallow, load_scorer(CHECKPOINTS / family) as whole:
        assert shallow.score_pairs(few) == pytest.approx(whole.with_options(cutoff_layer=3).score_pairs(few), abs=1e-6)
        assert depths == [3, 8]
        assert shallow.with_options(cutoff_layer=8).score_pairs(few) == pytest.approx(whole.score_pairs(few), abs=1e-6)
        assert shallow.score_layers(few, [5, 4]).keys() == {5, 4}
        assert depths == [3, 8, 8]


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_of_an_llm_may_be_tied_or_not(tied: bool, copy: Any) -> None:
    """The golden checkpoint ties its head to the embeddings: written out as a tensor of its own it scores the same."""
    changed = copy("llm")
    if not tied:
        changed.tensors(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2})).config(
            tie_word_embeddings=False
        )
    (case,) = [c for c in golden()["cases"] if (c["family"], c["pairs"], c["call"]) == ("llm", "france", {})]
    with load_scorer(changed.folder, devices="cpu") as scorer:
        factor = 1 if tied else 2
        assert scorer.score_pairs(pairs("france")) == pytest.approx([factor * s for s in case["scores"]], abs=2e-4)


@pytest.mark.parametrize("head_type", ["raw", "complex"])
@pytest.mark.parametrize("multi", [True, False])
def test_heads_with_a_row_for_every_token(head_type: str, multi: bool, copy: Any) -> None:
    """Such a head reads the state divided by hidden_size / dim_model_base (64 / 16), at the row of "Yes"."""
    checkpoint = copy("layerwise").config(head_type=head_type, head_multi=multi)
    from tokenizers import Tokenizer

    yes = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json")).encode("Yes", add_special_tokens=False).ids[0]

    def widen(tensors: dict[str, torch.Tensor]) -> None:
        for i in range(6):
            row = tensors.pop(f"lm_head.{i}.linear_head.weight")
            head = torch.full((1500, 64), 9.0)
            head[yes] = row
            name = f"lm_head.{i}." if multi else "lm_head."
            if multi or i == 5:
                tensors[name + ("weight" if head_type == "raw" else "linear_head.weight")] = head

    (case,) = [c for c in golden()["cases"] if (c["family"], c["pairs"], c["call"]) == ("layerwise", "france", {})]
    with load_scorer(checkpoint.tensors(widen).folder, devices="cpu") as scorer:
        assert scorer.score_pairs(pairs("france")) == pytest.approx([s / 4 for s in case["scores"]], abs=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_needs_the_model_and_one_tensor_more(tmp_path: Path, copy: Any) -> None:
    """Peak memory while a sharded half-precision checkpoint becomes a float32 model: no second copy of it."""
    layers, width, vocabulary = 8, 512, 1500
    config = json.loads((CHECKPOINTS / "llm" / "config.json").read_text()) | {
        "hidden_size": width, "intermediate_size": 2048, "num_hidden_layers": layers, "head_dim": 128,
    }  # fmt: skip
    checkpoint = copy("llm")
    (checkpoint.folder / "config.json").write_text(json.dumps(config))
    (checkpoint.folder / "model.safetensors").unlink()
    weight_map: dict[str, str] = {}

    def shard(number: int, **shapes: tuple[int, ...]) -> None:
        file = f"model-{number:05}-of-{layers + 1:05}.safetensors"
        save_file({n: torch.full(s, 0.01, dtype=torch.bfloat16) for n, s in shapes.items()}, checkpoint.folder / file)
        weight_map.update(dict.fromkeys(shapes, file))

    shard(0, **{"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)})
    for i in range(layers):
        name = f"model.layers.{i}."
        shard(
            i + 1,
            **{f"{name}mlp.{part}_proj.weight": (2048, width) for part in ("gate", "up")},
            **{
                f"{name}mlp.down_proj.weight": (width, 2048),
                f"{name}self_attn.q_proj.weight": (512, width),
                f"{name}self_attn.k_proj.weight": (128, width),
                f"{name}self_attn.v_proj.weight": (128, width),
                f"{name}self_attn.o_proj.weight": (width, 512),
                f"{name}input_layernorm.weight": (width,),
                f"{name}post_attention_layernorm.weight": (width,),
            },
        )
    (checkpoint.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    code = f"""
import re
from bge_rerank_integrations import load_scorer
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
load_scorer({str(CHECKPOINTS / "llm")!r}).score("q", ["a"])
before = peak()
scorer = load_scorer({str(checkpoint.folder)!r}, devices="cpu")
print(peak() - before)
"""
    # glibc hands freed tensors back at once, rather than when its heap happens to allow it (up to 18 MB later).
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    peak = int(run.stdout)
    parameters = vocabulary * width + layers * width * (3 * 2048 + 2 * 512 + 2 * 128)
    shard_bytes = 2 * width * (3 * 2048 + 2 * 512 + 2 * 128)
    assert 3 * parameters < peak < 4 * parameters + shard_bytes + 20_000_000
