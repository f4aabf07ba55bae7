"""The encoder equals transformers' own forward pass, alone and in batches of very different lengths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from bge_rerank_integrations import load_scorer
from tests.conftest import CHECKPOINTS

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
TEXTS = [" ".join(WORDS[i % 8] for i in range(count)) for count in (1, 300, 2, 40, 3, 40, 480, 0, 7)]


def randomized(model: PreTrainedModel) -> PreTrainedModel:
    """Large enough weights that every one of them shows in the score."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def reference_scores(model: PreTrainedModel, tokenizer: Tokenizer, pairs: list[tuple[str, str]]) -> list[float]:
    scores = []
    for query, text in pairs:
        encoding = tokenizer.encode(query, text)
        ids, types = torch.tensor([encoding.ids[:512]]), torch.tensor([encoding.type_ids[:512]])
        if len(encoding.ids) > 512:  # only the passage is cut
            ids[0, -1] = encoding.ids[-1]
        with torch.inference_mode():
            scores.append(model(input_ids=ids, token_type_ids=types).logits.item())
    return scores


def check(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    pairs = [("what is alpha", text) for text in TEXTS]
    expected = reference_scores(model, tokenizer, pairs)
    assert max(expected) - min(expected) > 0.01
    with load_scorer(folder, devices="cpu") as scorer:
        assert scorer.score_pairs(pairs) == pytest.approx(expected, abs=1e-4)
        assert [scorer.score_pairs([pair])[0] for pair in pairs] == pytest.approx(expected, abs=1e-4)


def test_base_size_xlm_roberta(tmp_path: Path) -> None:
    shutil.copy(CHECKPOINTS / "encoder" / "tokenizer.json", tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    config = XLMRobertaConfig(
        vocab_size=1202, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, num_labels=1
    )
    assert (config.num_hidden_layers, config.hidden_size) == (12, 768)
    model = randomized(XLMRobertaForSequenceClassification(config))
    model.save_pretrained(tmp_path)
    check(tmp_path, model, tokenizer)


def test_bert_with_token_types_and_pooler(tmp_path: Path) -> None:
    vocabulary = {
        token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "a", "b", *WORDS])
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        num_labels=1,
    )  # fmt: skip
    model = randomized(BertForSequenceClassification(config))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    check(tmp_path, model, tokenizer)
