"""Random weights in the shapes of the published models, to measure without the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from bge_rerank_integrations.corpus import language_reference
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import family_class

PREFIX = "random:"


def _encoder(width: int, layers: int, positions: int) -> dict[str, Any]:
    return {
        "architectures": ["XLMRobertaForSequenceClassification"],
        "model_type": "xlm-roberta",
        "vocab_size": 250002,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "max_position_embeddings": positions,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bge-reranker-base": ("encoder", _encoder(768, 12, 514)),
    "bge-reranker-large": ("encoder", _encoder(1024, 24, 514)),
    "bge-reranker-v2-m3": ("encoder", _encoder(1024, 24, 8194)),
    "bge-reranker-v2-gemma": (
        "llm",
        {
            "architectures": ["GemmaForCausalLM"],
            "model_type": "gemma",
            "vocab_size": 256000,
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 8192,
        },
    ),
    "bge-reranker-v2-minicpm-layerwise": (
        "layerwise",
        {
            "architectures": ["LayerWiseMiniCPMForCausalLM"],
            "model_type": "minicpm",
            "vocab_size": 122753,
            "hidden_size": 2304,
            "intermediate_size": 5760,
            "num_hidden_layers": 40,
            "num_attention_heads": 36,
            "num_key_value_heads": 36,
            "hidden_act": "silu",
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "scale_emb": 12,
            "scale_depth": 1.4,
            "dim_model_base": 256,
            "start_layer": 8,
            "head_multi": True,
            "head_type": "simple",
        },
    ),
    "bge-reranker-v2.5-gemma2-lightweight": (
        "lightweight",
        {
            "architectures": ["CostWiseGemmaForCausalLM"],
            "model_type": "cost_wise_gemma",
            "vocab_size": 256000,
            "hidden_size": 3584,
            "intermediate_size": 14336,
            "num_hidden_layers": 42,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "start_layer": 8,
            "layer_sep": 1,
            "layer_wise": True,
            "max_position_embeddings": 8192,
        },
    ),
}
"""Family and config.json of each published model."""


def write_random(wanted: str, folder: Path, seed: int = 0) -> None:
    """Write a checkpoint of random weights.

    Args:
        wanted: "random:NAME", or "random:NAME:FRACTION" for a part of the layers, such as 0.5.
        folder: an empty folder.
    """
    family = write_shape(wanted, folder)
    checkpoint = Checkpoint(folder)
    with torch.device("meta"):
        model = family_class(family)(checkpoint).build(checkpoint.config["num_hidden_layers"])
    # a norm's weights are around 1, minus what the model adds to them
    centre = 1.0 - getattr(model.get_submodule("stack").shape, "norm_offset", 0.0)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for tensor, target in model.targets().items():
        values = torch.randn(target.shape, generator=generator) * (0.5 if _is_head(tensor) else 0.02)
        is_scale = "norm" in tensor.lower() and tensor.endswith("weight")
        tensors[tensor] = values + centre if is_scale else values
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def write_shape(wanted: str, folder: Path) -> str:
    """Write a checkpoint without weights, to know the model by; the arguments are those of `write_random`.

    Returns:
        The family's name.
    """
    name, _, part = wanted.removeprefix(PREFIX).partition(":")
    if name not in SHAPES:
        raise OptionError(f"{wanted!r}: use random:NAME with one of {', '.join(SHAPES)}")
    try:
        fraction = float(part or 1)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise OptionError(f"{wanted!r}: after the second colon, give a part of the layers, such as 0.5")
    family, config = SHAPES[name]
    layers = max(1, round(config["num_hidden_layers"] * fraction))
    config = config | {"num_hidden_layers": layers, "rms_norm_eps": config.get("rms_norm_eps", 1e-6)}
    if "start_layer" in config:
        config["start_layer"] = min(config["start_layer"], layers)
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(folder, family)
    save_file({}, folder / "model.safetensors")
    return family


def _is_head(tensor: str) -> bool:
    return tensor.startswith(("classifier", "lm_head"))


def _write_tokenizer(folder: Path, family: str) -> None:
    """A small Unigram tokenizer of XLM-RoBERTa's kind, trained here: every peer reads it in the same way."""
    tokens = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    texts = [passage.text for passage in language_reference()]
    trainer = trainers.UnigramTrainer(
        vocab_size=4000, special_tokens=list(tokens.values()), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = "XLMRobertaTokenizer" if family == "encoder" else "PreTrainedTokenizerFast"
    inputs = {"model_input_names": ["input_ids", "attention_mask"], "model_max_length": 8192}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **inputs, **tokens}))
