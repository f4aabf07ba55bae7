"""Tiny checkpoints of the language models that the llm family runs, with the tokenizers that they are published with.

Tensors follow from their names alone, so that any environment can write the same checkpoint again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

CHECKPOINTS = Path(__file__).parent / "parity" / "checkpoints"
WORDS = ("Yes", "No", "yes", "no", "Ġis", "Ġthe", "Ġcapital", "Ġof", "Ġpassage", "Ġquery", "Given", "Ġwith", "Ġa", "re")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
LLAMA_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
ROWS = 1500
"""Of every embedding: more than any of the tokenizers has tokens."""


def byte_tokenizer(special: Sequence[str]) -> Tokenizer:
    """A byte-level tokenizer as Llama 3 and Qwen have it, that knows a few words."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(word[:i], word[i]) for word in WORDS for i in range(1, len(word))]
    tokens = dict.fromkeys([*letters, *(left + right for left, right in merges)])
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(dict.fromkeys(merges))))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def write_tokenizer(folder: Path, model_type: str) -> None:
    """The files of a tokenizer of the kind that this model is published with."""
    if model_type in ("gemma", "gemma2", "gemma3_text", "mistral", "minicpm"):
        source = CHECKPOINTS / ("llm" if model_type.startswith("gemma") else "layerwise")
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(source / name, folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        settings.pop("add_prefix_space", None)  # with it, transformers 4.46 asks for the sentencepiece model
        path.write_text(json.dumps(settings))
        return
    if model_type == "llama":
        tokenizer = byte_tokenizer(LLAMA_TOKENS)
        first = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B", special_tokens=[first]
        )
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": LLAMA_TOKENS[0], "eos_token": LLAMA_TOKENS[1],
            "pad_token": LLAMA_TOKENS[2],
        }  # fmt: skip
    else:
        tokenizer = byte_tokenizer(QWEN_TOKENS)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        settings = {
            "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": QWEN_TOKENS[2], "unk_token": None,
            "pad_token": QWEN_TOKENS[0],
        }  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def tensor(name: str, shape: Sequence[int], norm: float) -> torch.Tensor:
    """Random numbers by the tensor's name; a norm's are near `norm`."""
    numbers = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(crc32(name.encode())))
    return norm + 0.1 * numbers if "norm" in name else 0.15 * numbers


def write_base(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Path:
    """A checkpoint with this config.json and with tensors of these names and shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, config["model_type"])
    (folder / "config.json").write_text(json.dumps(config))
    norm = 0.0 if config["model_type"].startswith("gemma") else 1.0
    tensors = {name: tensor(name, shape, norm) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
