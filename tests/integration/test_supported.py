"""The table of checkpoints that load: each line does, and the pages show the same table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import UnknownFamilyError
from bge_rerank_integrations.model.families import FAMILIES, family_class
from bge_rerank_integrations.supported import FILES, SUPPORTED, Supported
from tests.conftest import CHECKPOINTS, Copy
from tests.integration import test_classifier, test_published
from tests.llm_bases import write_base
from tests.parity import test_llm_bases

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
MINICPM = {
    "model_type": "minicpm", "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16, "vocab_size": 1500,
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip


def minicpm(folder: Path, **config: Any) -> Path:
    layer = {f"self_attn.{part}_proj": [64, 64] for part in "qkvo"} | {
        "mlp.gate_proj": [96, 64], "mlp.up_proj": [96, 64], "mlp.down_proj": [64, 96],
        "input_layernorm": [64], "post_attention_layernorm": [64],
    }  # fmt: skip
    shapes = {"model.embed_tokens.weight": [1500, 64], "model.norm.weight": [64], "lm_head.weight": [1500, 64]}
    shapes |= {f"model.layers.{i}.{name}.weight": shape for i in range(2) for name, shape in layer.items()}
    return write_base(folder, MINICPM | {"tie_word_embeddings": False} | config, shapes)


def write(line: Supported, folder: Path) -> Path:
    """A checkpoint of this line."""
    if line.base == "Qwen3-Reranker":
        test_published.by_template(test_published.save(folder, test_published.QWEN3))
        return folder
    if line.base == "mxbai-rerank-v2":
        test_published.change(
            test_published.save(folder, {"model_type": "qwen2"}), "config.json", classifier_from_token=["0", "1"]
        )
        return folder
    if line.family in ("layerwise", "lightweight"):
        return CHECKPOINTS / line.family
    if line.model_type == "minicpm":
        return minicpm(folder)
    if line.family == "llm":
        return test_llm_bases.save(folder, {"model_type": line.model_type})
    return test_classifier.write(folder, line.model_type)


@pytest.mark.filterwarnings("ignore:.*slower")
@pytest.mark.parametrize("line", SUPPORTED, ids=lambda line: f"{line.base}-{line.family}")
def test_each_line_loads_by_its_family(line: Supported, tmp_path: Path) -> None:
    with load_scorer(write(line, tmp_path / "model")) as scorer:
        assert scorer.family == line.family
        assert len({*scorer.score("what is alpha", ["alpha", "beta of delta", "what"])}) == 3


def test_the_native_lines_are_those_of_the_families() -> None:
    for name in FAMILIES:
        listed = {kind for line in SUPPORTED if line.family == name for kind in line.model_type.split(", ")}
        own = set(family_class(name).model_types)
        assert listed == own or (not own and all(family_class(name).runs(kind) for kind in listed))


def test_the_page_has_the_same_lines() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for line in SUPPORTED:
        kinds = ", ".join(f"`{kind}`" for kind in line.model_type.split(", "))
        assert f"| {line.base} | {kinds} | {line.head} | {line.family} | {line.way} |" in page
    for source, what in FILES:
        assert f"| {source} | {what} |" in page


def test_errors_for_the_rest_list_it(copy: Callable[..., Copy]) -> None:
    changed = copy().config(model_type="no-such-model", architectures=["X"])
    with pytest.raises(UnknownFamilyError) as caught:
        load_scorer(changed.folder)
    for kind in ("xlm-roberta", "qwen3", "gemma3_text", "cost_wise_gemma", "ForSequenceClassification class"):
        assert kind in str(caught.value)


def test_minicpm_is_a_llama_with_other_numbers(tmp_path: Path) -> None:
    """Its factors on embeddings, branches and logits can all be written into a Llama's weights."""
    from safetensors.torch import load_file, save_file

    path = minicpm(tmp_path / "minicpm") / "model.safetensors"
    llama = minicpm(tmp_path / "llama")
    config = json.loads((llama / "config.json").read_text()) | {"model_type": "llama"}
    (llama / "config.json").write_text(json.dumps(config))
    tensors = load_file(path)
    factors = {"embed_tokens": 12, "o_proj": 1.4 / 2**0.5, "down_proj": 1.4 / 2**0.5, "lm_head": 16 / 64}
    for name in tensors:
        for part, factor in factors.items():
            if part in name:
                tensors[name] = tensors[name] * factor
    save_file(tensors, llama / "model.safetensors", {"format": "pt"})
    with load_scorer(path.parent) as scorer, load_scorer(llama) as same:
        texts = ["alpha", "", "a longer text of more words"]
        assert scorer.score("q", texts) == pytest.approx(same.score("q", texts), abs=1e-4)
