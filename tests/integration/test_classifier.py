"""Models without a forward pass here run by transformers' own: any base, the scores those of transformers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import CheckpointError, DeviceError, RerankError, WeightsError
from tests.conftest import CHECKPOINTS
from tests.llm_bases import ROWS, write_tokenizer

if TYPE_CHECKING:
    from tests.integration.conftest import Adapter

WORDS = ("alpha", "beta", "gamma", "delta", "what", "is", "a", "of", "?", ".")
QUERY = "what is alpha?"
TEXTS = ["alpha", "", "beta gamma " * 40, "delta of a", "alpha is a delta.", "gamma " * 9, "what", "beta is alpha " * 5]
SMALL = {
    "vocab_size": ROWS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "pad_token_id": 0, "initializer_range": 0.3, "max_position_embeddings": 128,
}  # fmt: skip
DECODER = {"num_key_value_heads": 2, "head_dim": 8}
BASES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "camembert": {"pad_token_id": 1, "max_position_embeddings": 130},
    "deberta-v2": {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "gemma": DECODER,
    "gemma2": DECODER,
    "gemma3_text": DECODER,
    "llama": DECODER,
    "modernbert": {"local_attention": 8, "global_attn_every_n_layers": 2},
    "mpnet": {"pad_token_id": 1, "max_position_embeddings": 130},
    "qwen2": DECODER,
    "qwen3": DECODER,
    "roberta": {"pad_token_id": 1, "max_position_embeddings": 130},
    "xlm-roberta": {"pad_token_id": 1, "max_position_embeddings": 130},
}
NATIVE = ("bert", "camembert", "roberta", "xlm-roberta")
CLASSES = {"distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer", "bert": "BertTokenizer"}


def write_words(folder: Path, model_type: str) -> None:
    """A tokenizer with the template of BERT, or of RoBERTa where that is the model's."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if BASES[model_type].get("pad_token_id") != 1 else [
        "[CLS]", "[PAD]", "[SEP]", "[UNK]"
    ]  # fmt: skip
    tokens = {token: index for index, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    second = 0 if model_type in ("camembert", "mpnet", "roberta", "xlm-roberta", "modernbert") else 1
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=f"[CLS] $A [SEP] $B:{second} [SEP]:{second}",
        special_tokens=[(name, tokens[name]) for name in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{name.lower()}_token": f"[{name}]" for name in ("CLS", "SEP", "PAD", "UNK")}
    kind = CLASSES.get(model_type, "PreTrainedTokenizerFast")
    settings: dict[str, Any] = {"tokenizer_class": kind, "model_max_length": 128, **named}
    if second:
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write(folder: Path, model_type: str, **changes: Any) -> Path:
    """A random checkpoint as transformers' trainer saves it."""
    config = AutoConfig.for_model(model_type, **{**SMALL, "num_labels": 1, **BASES[model_type], **changes})
    model = AutoModelForSequenceClassification.from_config(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    write_tokenizer(folder, model_type) if BASES[model_type] is DECODER else write_words(folder, model_type)
    return folder


def reference(folder: Path, length: int = 128) -> torch.Tensor:
    """Logits of transformers, one pair after the other."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in TEXTS:
        inputs = tokenizer([QUERY], [text], truncation="only_second", max_length=length, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(**inputs).logits[0])
    return torch.stack(rows)


@pytest.fixture
def load() -> Callable[..., Scorer]:
    """Loads a model of the family, which says that it is the slower way."""

    def loaded(folder: Path, **options: Any) -> Scorer:
        with pytest.warns(UserWarning, match="slower"):
            return load_scorer(folder, **options)

    return loaded


@pytest.mark.parametrize("model_type", BASES)
def test_scores_are_those_of_transformers(model_type: str, tmp_path: Path, load: Callable[..., Scorer]) -> None:
    expected = reference(write(tmp_path, model_type))[:, 0].tolist()
    assert max(expected) - min(expected) > 0.01
    with load(tmp_path, family="classifier" if model_type in NATIVE else None) as scorer:
        assert scorer.family == "classifier"
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)
        assert [scorer.score(QUERY, [text])[0] for text in TEXTS] == pytest.approx(expected, abs=1e-5)
        short = reference(tmp_path, 24)[:, 0].tolist()
        assert scorer.with_options(max_length=24).score(QUERY, TEXTS) == pytest.approx(short, abs=1e-5)


@pytest.mark.parametrize("model_type", NATIVE)
def test_native_models_score_as_by_transformers(model_type: str, tmp_path: Path, load: Callable[..., Scorer]) -> None:
    write(tmp_path, model_type)
    with load(tmp_path, family="classifier") as slow, load_scorer(tmp_path) as fast:
        assert fast.family == "encoder"
        assert fast.score(QUERY, TEXTS) == pytest.approx(slow.score(QUERY, TEXTS), abs=1e-5)


@pytest.mark.parametrize("model_type", NATIVE)
@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
def test_two_labels_of_native_models(
    model_type: str, problem_type: Any, tmp_path: Path, load: Callable[..., Scorer]
) -> None:
    write(tmp_path, model_type, num_labels=2, problem_type=problem_type)
    with load(tmp_path, family="classifier") as slow, load_scorer(tmp_path) as fast:
        assert fast.family == "encoder"
        assert fast.score(QUERY, TEXTS) == pytest.approx(slow.score(QUERY, TEXTS), abs=1e-5)


def test_a_language_model_without_a_padding_token(tmp_path: Path, load: Callable[..., Scorer]) -> None:
    """transformers cannot score two of different lengths at once then."""
    expected = reference(write(tmp_path, "qwen2", pad_token_id=None))[:, 0].tolist()
    with load(tmp_path) as scorer:
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("model_type", ["distilbert", "modernbert", "qwen3"])
@pytest.mark.parametrize("problem_type", [None, "single_label_classification", "multi_label_classification"])
def test_two_labels(model_type: str, problem_type: Any, tmp_path: Path, load: Callable[..., Scorer]) -> None:
    logits = reference(write(tmp_path, model_type, num_labels=2, problem_type=problem_type))
    both = problem_type == "multi_label_classification"
    expected = torch.sigmoid(logits)[:, 1] if both else torch.softmax(logits, 1)[:, 1]
    with load(tmp_path, scale="sigmoid") as scorer:
        assert scorer.score(QUERY, TEXTS) == pytest.approx(expected.tolist(), abs=1e-5)


def test_three_labels_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "distilbert", num_labels=3)
    with pytest.warns(UserWarning, match="slower"), pytest.raises(WeightsError, match="names 3 labels"):
        load_scorer(tmp_path)


def test_it_says_once_that_it_is_slower(tmp_path: Path) -> None:
    write(tmp_path, "electra")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        with load_scorer(tmp_path) as scorer:
            scorer.score(QUERY, TEXTS)
            scorer.with_options(max_length=24).score(QUERY, TEXTS)
    assert ["ElectraForSequenceClassification" in str(one.message) for one in said] == [True]


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_nothing_of_a_checkpoint_is_executed(
    tmp_path: Path, load: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither code beside the weights, nor code or kernels on the hub; and nobody is asked."""
    write(tmp_path, "distilbert")
    with load(tmp_path) as scorer:
        expected = scorer.score(QUERY, TEXTS)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    auto_map = {"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "some/where--evil.Evil"}
    change(tmp_path, auto_map=auto_map, attn_implementation="some/kernel", _attn_implementation="some/kernel")
    monkeypatch.setattr("builtins.input", lambda *said: pytest.fail(f"asked {said}"))
    with load(tmp_path) as scorer:
        assert scorer.score(QUERY, TEXTS) == expected
    assert not (tmp_path / "ran").exists()


def test_missing_and_surplus_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = write(tmp_path, "distilbert") / "model.safetensors"
    tensors = load_file(path)
    for wrong in (
        {name: tensor for name, tensor in tensors.items() if name != "classifier.weight"},
        tensors | {"classifier.surplus": torch.zeros(1)},
        tensors | {"classifier.weight": torch.zeros(1, 31)},
        tensors | {"classifier.weight": tensors["classifier.weight"] * float("nan")},
    ):
        save_file(wrong, path, {"format": "pt"})
        with pytest.warns(UserWarning, match="slower"), pytest.raises(WeightsError, match=r"classifier\."):
            load_scorer(tmp_path)


@pytest.mark.filterwarnings("ignore:.*slower")
@pytest.mark.parametrize(("key", "value"), [("dim", "wide"), ("n_heads", 5), ("id2label", 3), ("n_layers", -1)])
def test_a_config_that_does_not_fit_is_named(key: str, value: Any, tmp_path: Path) -> None:
    change(write(tmp_path, "distilbert"), **{key: value})
    with pytest.raises(RerankError):
        load_scorer(tmp_path)


def test_eight_bit_products_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path, "distilbert")
    with pytest.warns(UserWarning, match="slower"), pytest.raises(DeviceError, match="int8"):
        load_scorer(tmp_path, dtype="int8")


def test_both_adapters(adapter: Adapter, tmp_path: Path, load: Callable[..., Scorer]) -> None:
    write(tmp_path, "modernbert")
    with load(tmp_path) as scorer:
        expected = scorer.score(QUERY, ["alpha", "delta of a"])
    reranker = adapter.new(model=str(tmp_path))
    with pytest.warns(UserWarning, match="slower"):
        scores = adapter.score(reranker, QUERY, ["alpha", "delta of a"])
    assert scores == pytest.approx(expected, abs=1e-5)
    reranker.close()


def test_a_logit_score_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "distilbert")
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.LogitScore", "path": "1_LogitScore"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_LogitScore").mkdir()
    (tmp_path / "1_LogitScore" / "config.json").write_text(json.dumps({"true_token_id": 3}))
    with pytest.warns(UserWarning, match="slower"), pytest.raises(CheckpointError, match="LogitScore"):
        load_scorer(tmp_path)


def test_the_family_of_a_native_checkpoint_can_be_named(load: Callable[..., Scorer]) -> None:
    with load(CHECKPOINTS / "encoder", family="classifier") as slow, load_scorer(CHECKPOINTS / "encoder") as fast:
        assert slow.score("q", ["a text", ""]) == pytest.approx(fast.score("q", ["a text", ""]), abs=1e-5)
