"""LoRA adapters score as the checkpoint does that they were merged into by hand; what merging cannot do is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, HubError, RerankError, WeightsError
from tests.conftest import CHECKPOINTS, FAMILIES, Copy, pairs

CopyOf = Callable[..., Copy]
RANK, ALPHA = 4, 6
MATRICES = ["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj", "model.layers.2.mlp.down_proj"]
ADAPTED = {
    "encoder": ["roberta.encoder.layer.1.attention.self.query", "roberta.encoder.layer.2.output.dense"],
    "llm": MATRICES,
    "layerwise": MATRICES,
    "lightweight": MATRICES,
}
"""The matrices that each family's adapter changes."""
TRAINED = {
    "encoder": ["classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight"],
    "llm": ["lm_head.weight", "model.embed_tokens.weight"],
    "layerwise": ["lm_head.0.linear_head.weight", "lm_head.5.linear_head.weight"],
    "lightweight": ["lm_head.5.linear_head.weight", "model.embed_tokens.weight"],
}
"""The tensors that were trained whole and saved with it (`modules_to_save`)."""


class Training:
    """An adapter of a family's tiny checkpoint, written as peft writes it, and the checkpoint merged by hand."""

    def __init__(self, copy: CopyOf, family: str, folder: Path, **settings: Any) -> None:
        self.family = family
        self.folder = folder
        folder.mkdir()
        self.settings = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(CHECKPOINTS / family),
            "r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.1, "bias": "none", "inference_mode": True,
            "target_modules": ["q_proj"], "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {},
            "use_rslora": False, "use_dora": False, "init_lora_weights": True, "loftq_config": {},
        } | settings  # fmt: skip
        (folder / "adapter_config.json").write_text(json.dumps(self.settings))
        self.saved: dict[str, Tensor] = {}
        self.merged = copy(family)
        self.generator = torch.Generator().manual_seed(3)

    def adapt(self, module: str, rank: int = RANK, scale: float = ALPHA / RANK) -> None:
        """Change a matrix by two random factors."""

        def add(tensors: dict[str, Tensor]) -> None:
            weight = tensors[f"{module}.weight"]
            a = torch.randn(rank, weight.shape[1], generator=self.generator) * 0.3
            b = torch.randn(weight.shape[0], rank, generator=self.generator) * 0.3
            self.saved[f"base_model.model.{module}.lora_A.weight"] = a
            self.saved[f"base_model.model.{module}.lora_B.weight"] = b
            tensors[f"{module}.weight"] = weight + scale * b @ a

        self.merged.tensors(add)

    def embed(self, module: str) -> None:
        """Change an embedding, of which the factors lie the other way round."""

        def add(tensors: dict[str, Tensor]) -> None:
            weight = tensors[f"{module}.weight"]
            a = torch.randn(RANK, weight.shape[0], generator=self.generator) * 0.3
            b = torch.randn(weight.shape[1], RANK, generator=self.generator) * 0.3
            self.saved[f"base_model.model.{module}.lora_embedding_A"] = a
            self.saved[f"base_model.model.{module}.lora_embedding_B"] = b
            tensors[f"{module}.weight"] = weight + ALPHA / RANK * (b @ a).T

        self.merged.tensors(add)

    def train(self, name: str, infix: str = "") -> None:
        """Save a tensor that was trained whole."""

        def replace(tensors: dict[str, Tensor]) -> None:
            shape = tensors[name if name in tensors else "model.embed_tokens.weight"].shape
            tensors[name] = torch.randn(shape, generator=self.generator) * 0.3
            module, _, kind = name.rpartition(".")
            self.saved[f"base_model.model.{module}{infix}.{kind}"] = tensors[name].clone()

        self.merged.tensors(replace)
        if name == "lm_head.weight":
            self.merged.config(tie_word_embeddings=False)

    def save(self) -> Path:
        save_file(
            {name: tensor.contiguous() for name, tensor in self.saved.items()},
            self.folder / "adapter_model.safetensors",
        )
        return self.folder

    def check(self) -> None:
        """Adapter and merged checkpoint score alike, and not as the base does."""
        some = pairs("mixed")[:8]
        with load_scorer(self.save()) as adapter, load_scorer(self.merged.folder) as merged:
            scores = merged.score_pairs(some)
            assert adapter.score_pairs(some) == pytest.approx(scores, abs=1e-4)
            assert adapter.family == self.family
        with load_scorer(CHECKPOINTS / self.family) as base:
            assert base.score_pairs(some) != pytest.approx(scores, abs=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapted_matrices(copy: CopyOf, family: str, tmp_path: Path) -> None:
    training = Training(copy, family, tmp_path / "adapter")
    for module in ADAPTED[family]:
        training.adapt(module)
    training.check()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("infix", ["", ".modules_to_save.default", ".base_layer"])
def test_heads_and_embeddings_saved_with_an_adapter(copy: CopyOf, family: str, infix: str, tmp_path: Path) -> None:
    training = Training(copy, family, tmp_path / "adapter", modules_to_save=["head"])
    training.adapt(ADAPTED[family][0])
    for name in TRAINED[family]:
        training.train(name, infix)
    training.check()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapted_embedding(copy: CopyOf, family: str, tmp_path: Path) -> None:
    training = Training(copy, family, tmp_path / "adapter")
    training.embed("roberta.embeddings.word_embeddings" if family == "encoder" else "model.embed_tokens")
    training.check()


def test_tied_embeddings_that_peft_saved_beside_their_change(copy: CopyOf, tmp_path: Path) -> None:
    """Merging changes the head with them, as it is the same tensor."""
    training = Training(copy, "llm", tmp_path / "adapter")
    with safe_open(CHECKPOINTS / "llm" / "model.safetensors", framework="pt") as file:
        training.saved["base_model.model.model.embed_tokens.base_layer.weight"] = file.get_tensor(
            "model.embed_tokens.weight"
        )
    training.embed("model.embed_tokens")
    training.check()


def test_ranks_and_scales_of_their_own(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(
        copy, "llm", tmp_path / "adapter", use_rslora=True,
        rank_pattern={"layers.1.self_attn.q_proj": 2}, alpha_pattern={"v_proj": 9},
    )  # fmt: skip
    training.adapt("model.layers.1.self_attn.q_proj", rank=2, scale=ALPHA / 2**0.5)
    training.adapt("model.layers.1.self_attn.v_proj", scale=9 / RANK**0.5)
    training.adapt("model.layers.0.mlp.up_proj", scale=ALPHA / RANK**0.5)
    training.check()


def test_trained_biases(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "encoder", tmp_path / "adapter", bias="all")
    training.adapt(ADAPTED["encoder"][0])
    training.train("roberta.encoder.layer.1.attention.self.query.bias")
    training.check()


def test_biases_of_modules_that_were_replaced(copy: CopyOf, tmp_path: Path) -> None:
    """With bias="all" peft saves those of the original head too, beside the trained copy that is used."""
    training = Training(copy, "encoder", tmp_path / "adapter", bias="all", modules_to_save=["classifier"])
    training.adapt(ADAPTED["encoder"][0])
    for name in TRAINED["encoder"]:
        training.train(name, ".modules_to_save.default")
    training.saved["base_model.model.classifier.original_module.dense.bias"] = torch.ones(64)
    training.check()


def test_an_adapted_head_that_is_tied(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    rows = load_file(CHECKPOINTS / "llm" / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    training.saved["base_model.model.lm_head.lora_A.weight"] = torch.ones(RANK, 64)
    training.saved["base_model.model.lm_head.lora_B.weight"] = torch.ones(rows, RANK)
    fails(training, WeightsError, "same tensor as the embeddings", "merge it with peft")


def test_an_adapter_of_an_adapter(copy: CopyOf, tmp_path: Path) -> None:
    first = Training(copy, "layerwise", tmp_path / "first")
    first.adapt(ADAPTED["layerwise"][0])
    second = Training(
        lambda _: first.merged, "layerwise", tmp_path / "second", base_model_name_or_path=str(first.save())
    )
    second.adapt(ADAPTED["layerwise"][0])
    second.check()


def test_the_tokenizer_that_training_saved_counts(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "encoder", tmp_path / "adapter")
    training.adapt(ADAPTED["encoder"][0])
    content = json.loads((CHECKPOINTS / "encoder" / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    for folder in (training.folder, training.merged.folder):
        (folder / "tokenizer.json").write_text(json.dumps(content))
    training.check()


def test_a_config_beside_an_adapter_is_no_model(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    training.adapt(ADAPTED["llm"][0])
    (training.folder / "config.json").write_text('{"model_type": "gemma"}')
    training.check()


def fails(training: Training, error: type[RerankError], *parts: str) -> None:
    with pytest.raises(error) as caught:
        load_scorer(training.save())
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("lora_bias", True),
        ("layer_replication", [[0, 2]]),
        ("megatron_config", {"a": 1}),
        ("trainable_token_indices", [3]),
        ("alora_invocation_tokens", [1, 2]),
        ("target_parameters", ["w"]),
        ("a_setting_of_next_year", True),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "olora"),
        ("peft_type", "IA3"),
        ("base_model_name_or_path", None),
        ("base_model_name_or_path", ""),
        ("r", "eight"),
        ("r", 5),
        ("lora_alpha", None),
        ("lora_alpha", float("inf")),
        ("rank_pattern", {"(a+)+$": 3}),
        ("rank_pattern", {"(": 3}),
    ],
)
def test_settings_that_merging_cannot_honour_are_named(copy: CopyOf, key: str, value: object, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter", **{key: value})
    training.adapt(ADAPTED["llm"][0])
    fails(training, CheckpointError, "rank" if key == "r" else key)


def test_what_does_not_fit_the_base_is_named(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter", base_model_name_or_path=str(CHECKPOINTS / "encoder"))
    training.adapt(ADAPTED["llm"][0])
    fails(training, WeightsError, "model.layers.1.self_attn.q_proj.weight", str(CHECKPOINTS / "encoder"))
    training = Training(copy, "layerwise", tmp_path / "other", base_model_name_or_path=str(CHECKPOINTS / "lightweight"))
    training.adapt(ADAPTED["layerwise"][0])
    fails(training, WeightsError, "(64, 64)", "(128, 64)")


def test_half_an_adapter_is_refused(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    training.adapt(ADAPTED["llm"][0])
    training.saved = {name: tensor for name, tensor in training.saved.items() if "lora_A" not in name}
    fails(training, WeightsError, "only one of the two factors", "q_proj")


def test_tied_embeddings_trained_without_the_head(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    training.train("model.embed_tokens.weight")
    fails(training, WeightsError, "without the head")


def test_factors_in_integers_are_refused(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    training.adapt(ADAPTED["llm"][0])
    training.saved = {name: tensor.to(torch.int8) for name, tensor in training.saved.items()}
    fails(training, WeightsError, "I8")


def test_a_base_that_is_missing_is_named_with_the_adapter(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter", base_model_name_or_path="/nowhere/at/all")
    training.adapt(ADAPTED["llm"][0])
    fails(training, CheckpointError, str(training.folder), "'/nowhere/at/all'", "base_model_name_or_path")
    training = Training(copy, "encoder", tmp_path / "other", base_model_name_or_path="owner/base")
    training.adapt(ADAPTED["encoder"][0])
    training.save()
    with pytest.raises(HubError, match="owner/base"):
        load_scorer(training.folder, local_files_only=True, cache_dir=tmp_path / "cache")


def test_adapters_in_a_circle(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "adapter"))
    training.adapt(ADAPTED["llm"][0])
    fails(training, CheckpointError, "its own base")


def test_pickled_adapters_are_refused(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    (training.folder / "adapter_model.bin").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match="executed when loaded"):
        load_scorer(training.folder)


def test_an_adapter_beside_a_whole_model_is_ambiguous(copy: CopyOf, tmp_path: Path) -> None:
    training = Training(copy, "llm", tmp_path / "adapter")
    training.adapt(ADAPTED["llm"][0])
    (training.folder / "model.safetensors").write_bytes((CHECKPOINTS / "llm" / "model.safetensors").read_bytes())
    fails(training, CheckpointError, "both a model", "adapter_model.safetensors")
