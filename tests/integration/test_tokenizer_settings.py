"""What stands beside tokenizer.json counts as it does in the reference, and what cannot count is refused by name.

The expected ids were compared with transformers 4.46, the expected scores made with sentence-transformers 6.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, UnknownFamilyError
from bge_rerank_integrations.model.tokenizer_files import TokenizerFiles
from tests.conftest import CHECKPOINTS, Copy, pairs
from tests.integration.test_bad_checkpoints import fails

CopyOf = Callable[..., Copy]
PAIRS = [
    ("What is a Giant PANDA?", "The Giant Panda is a Bear."),
    ("What is a Giant PANDA?", "PARIS is the Capital of France."),
]
PLAIN, LOWERCASE, PROMPTED = [-0.079896, -0.132405], [-0.110078, -0.12269], [-0.158848, -0.215017]
PROMPT = "Which bear is it? "
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
SAVED = {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None}


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, PLAIN),
        ({"sentence_bert_config": {"do_lower_case": True}}, PLAIN),
        ({"modules": MODULES, "sentence_bert_config": {"do_lower_case": True}}, PLAIN),
        (
            {
                "modules": MODULES,
                "config_sentence_transformers": SAVED,
                "sentence_bert_config": {"do_lower_case": True},
            },
            LOWERCASE,
        ),
        ({"modules": MODULES, "config_sentence_transformers": SAVED | {"prompts": {"query": PROMPT}}}, PLAIN),
        (
            {
                "modules": MODULES,
                "config_sentence_transformers": SAVED | {"prompts": {"query": PROMPT}, "default_prompt_name": "query"},
            },
            PROMPTED,
        ),
    ],
    ids=["none", "no modules", "of another kind", "lower case", "prompt by name only", "prompt"],
)
def test_what_sentence_transformers_saves(copy: CopyOf, files: dict[str, Any], expected: list[float]) -> None:
    with load_scorer(write(copy().folder, **files), devices="cpu") as scorer:
        assert scorer.score_pairs(PAIRS) == pytest.approx(expected, abs=1e-4)
        if expected is PROMPTED:  # and what the caller says counts for more
            assert scorer.with_options(query_instruction="").score_pairs(PAIRS) == pytest.approx(PLAIN, abs=1e-4)


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"])
def test_activations_that_scale_can_do(copy: CopyOf, activation: str) -> None:
    folder = copy().config(sentence_transformers={"activation_fn": activation}).folder
    write(folder, modules=MODULES, config_sentence_transformers=SAVED | {"activation_fn": activation})
    with load_scorer(folder, devices="cpu") as scorer:
        assert scorer.score_pairs(PAIRS) == pytest.approx(PLAIN, abs=1e-4)


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.Tanh", "evil.Activation"])
def test_other_activations_are_refused(copy: CopyOf, activation: str) -> None:
    fails(copy().config(sentence_transformers={"activation_fn": activation}).folder, CheckpointError, activation)


def test_an_activation_in_either_place_is_seen(copy: CopyOf) -> None:
    saved = SAVED | {"activation_fn": "torch.nn.modules.activation.Tanh"}
    folder = write(copy().folder, modules=MODULES, config_sentence_transformers=saved)
    fails(folder, CheckpointError, "config_sentence_transformers.json", "Tanh")
    (folder / "modules.json").unlink()
    (folder / "config_sentence_transformers.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["sbert_ce_default_activation_function"] = "torch.nn.modules.activation.ReLU"
    fails(write(folder, config=config), CheckpointError, "ReLU")


@pytest.mark.parametrize(
    ("added", "error", "part"),
    [
        ({"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}, UnknownFamilyError, "embedding model"),
        ({"path": "1_Dense", "type": "sentence_transformers.models.Dense"}, CheckpointError, "Dense"),
        ({"path": "custom", "type": "own_code.Module"}, CheckpointError, "Module"),
    ],
)
def test_further_modules_are_refused_by_name(
    copy: CopyOf, added: dict[str, Any], error: type[Exception], part: str
) -> None:
    fails(write(copy().folder, modules=[*MODULES, added]), error, "modules.json", part)


@pytest.mark.parametrize("broken", [{}, [1], "text", [{"type": 3}]])
def test_broken_modules_are_named(copy: CopyOf, broken: Any) -> None:
    fails(write(copy().folder, modules=broken), CheckpointError, "modules.json")


def logit_score(folder: Path, true: Any, false: Any) -> Path:
    module = {"path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"}
    (folder / "1_LogitScore").mkdir()
    (folder / "1_LogitScore" / "config.json").write_text(json.dumps({"true_token_id": true, "false_token_id": false}))
    return write(folder, modules=[*MODULES, module], config_sentence_transformers=SAVED)


def yes_token() -> int:
    return (
        Tokenizer.from_file(str(CHECKPOINTS / "llm" / "tokenizer.json")).encode("Yes", add_special_tokens=False).ids[0]
    )


def test_the_logit_of_yes_is_what_the_llm_family_gives(copy: CopyOf, scorers: Callable[[str], Any]) -> None:
    folder = logit_score(copy("llm").folder, yes_token(), None)
    with load_scorer(folder) as scorer:
        assert scorer.score_pairs(pairs("france")) == scorers("llm").score_pairs(pairs("france"))


@pytest.mark.parametrize(("true", "false"), [("Yes", None), (5, "No"), (1500, None), (5, 1500), (-1, None)])
def test_what_is_no_token_of_the_model_is_refused(copy: CopyOf, true: Any, false: Any) -> None:
    fails(logit_score(copy("llm").folder, true, false), CheckpointError, "token")


def test_logits_of_an_encoder_are_refused(copy: CopyOf) -> None:
    fails(logit_score(copy().folder, 5, None), CheckpointError, "LogitScore")


def test_a_prompt_that_a_decoder_has_no_place_for(copy: CopyOf) -> None:
    saved = SAVED | {"prompts": {"query": PROMPT}, "default_prompt_name": "query"}
    folder = write(copy("layerwise").folder, modules=MODULES, config_sentence_transformers=saved)
    fails(folder, CheckpointError, PROMPT, "default_prompt_name")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "alpha", "Alpha", "cafe", "café", "中", "中文"]
"""A vocabulary in which every setting shows."""


def bert(folder: Path, lowercase: bool, **settings: Any) -> list[int]:
    """The ids of a text, under a tokenizer.json and the settings beside it."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    if settings:
        write(folder, tokenizer_config={name: value for name, value in settings.items() if value is not None})
    files = TokenizerFiles(folder, {"model_type": "bert"})
    return list(files.tokenizer.encode("Alpha café 中文", add_special_tokens=False).ids)


LOWER, CASED = [4, 6, 8, 1], [5, 7, 8, 1]


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": False}, CASED),
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, LOWER),
        ({"tokenizer_class": "BertTokenizerFast"}, LOWER),
        ({}, LOWER),
        ({"do_lower_case": False}, CASED),
        ({"do_lower_case": True, "strip_accents": False}, [4, 7, 8, 1]),
        ({"do_lower_case": False, "tokenize_chinese_chars": False}, [5, 7, 9]),
        ({"tokenizer_class": "ElectraTokenizer", "do_lower_case": False}, CASED),
    ],
)
def test_berts_normalizer_is_that_of_the_settings(
    tmp_path: Path, written: bool, settings: dict[str, Any], expected: list[int]
) -> None:
    """Whatever tokenizer.json says, as transformers' classes rewrite it."""
    assert bert(tmp_path, written, **settings) == expected


@pytest.mark.parametrize("written", [True, False])
def test_other_classes_leave_tokenizer_json_as_it_is(tmp_path: Path, written: bool) -> None:
    ids = bert(tmp_path, written, tokenizer_class="PreTrainedTokenizerFast", do_lower_case=not written)
    assert ids == (LOWER if written else CASED)


def test_a_setting_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="do_lower_case is 'no'"):
        bert(tmp_path, True, do_lower_case="no")


PANDA = [("what is a Giant PANDA?", "The giant panda is a bear. CAFÉ été")]


def test_the_class_has_the_template_of_a_pair(copy: CopyOf) -> None:
    """FlagEmbedding's scores: it is the tokenizer's class that puts the special tokens there, not tokenizer.json."""
    folder = copy().folder
    path = folder / "tokenizer.json"
    for template in (None, {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": template}))
        with load_scorer(folder, devices="cpu") as scorer:
            assert scorer.score_pairs(PANDA) == pytest.approx([-0.10977], abs=1e-4)


@pytest.mark.parametrize(
    ("named", "expected"), [({"sep_token": "<mask>"}, -0.12898), ({"cls_token": "<pad>"}, -0.16813)]
)
def test_the_special_tokens_of_a_pair_are_those_of_the_settings(
    copy: CopyOf, named: dict[str, str], expected: float
) -> None:
    folder = copy().folder
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    with load_scorer(folder, devices="cpu") as scorer:
        assert scorer.score_pairs(PANDA) == pytest.approx([expected], abs=1e-4)


def test_a_separator_that_is_in_no_vocabulary(copy: CopyOf) -> None:
    folder = copy().folder
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sep_token": "<sep>"}))
    fails(folder, CheckpointError, "sep_token is '<sep>'", "vocabulary")


@pytest.mark.parametrize(("names", "types"), [(["input_ids", "attention_mask"], False), (None, True)])
def test_token_types_are_given_where_the_settings_say_so(tmp_path: Path, names: list[str] | None, types: bool) -> None:
    bert(tmp_path, True, model_input_names=names)
    assert TokenizerFiles(tmp_path, {"model_type": "bert"}).gives_token_types is types


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("setting", [True, False, None])
def test_robertas_first_space(tmp_path: Path, written: bool, setting: bool | None) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "alpha": 1, "Ġalpha": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=written)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, tokenizer_config={} if setting is None else {"add_prefix_space": setting})
    files = TokenizerFiles(tmp_path, {"model_type": "roberta"})
    assert files.tokenizer.encode("alpha").ids == [2 if setting else 1]


ENT = {"content": "alpha", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"added_tokens_decoder": {"4": ENT}}},
        {"added_tokens": {"alpha": 4}},
        {"special_tokens_map": {"additional_special_tokens": ["alpha"]}},
        {"tokenizer_config": {"mask_token": "alpha"}},
        {"tokenizer_config": {"extra_special_tokens": ["alpha"]}},
    ],
    ids=lambda files: next(iter(files)),
)
def test_added_tokens_beside_tokenizer_json(tmp_path: Path, files: dict[str, Any]) -> None:
    """They are found inside of words, as no token of the vocabulary is."""
    bert(tmp_path, True)
    write(tmp_path, **files)
    tokenizer = TokenizerFiles(tmp_path, {"model_type": "bert"}).tokenizer
    assert tokenizer.encode("中alpha中", add_special_tokens=False).ids == [8, 4, 8]
    assert tokenizer.encode("xalphax", add_special_tokens=False).ids == [1, 4, 1]


@pytest.mark.parametrize("listed", [3, {"x": ENT}, {"4": {"lstrip": True}}, {"4": "alpha"}])
def test_a_broken_list_of_added_tokens_is_named(tmp_path: Path, listed: Any) -> None:
    bert(tmp_path, True)
    write(tmp_path, tokenizer_config={"added_tokens_decoder": listed})
    with pytest.raises(CheckpointError, match="added tokens"):
        _ = TokenizerFiles(tmp_path, {"model_type": "bert"}).tokenizer
