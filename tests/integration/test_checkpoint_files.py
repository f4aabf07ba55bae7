"""Files that must agree are compared on load, before memory is taken: config, tensors, tokenizer, shards, heads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import CheckpointError, WeightsError
from tests.conftest import FAMILIES, Copy, golden, pairs
from tests.integration.test_bad_checkpoints import QUERY, fails, shard

CopyOf = Callable[..., Copy]
Scorers = Callable[[str], Scorer]
DECODERS = ("llm", "layerwise", "lightweight")
FLOAT_KEYS = {
    "encoder": ["layer_norm_eps"],
    "llm": ["rms_norm_eps", "rope_theta"],
    "layerwise": ["rms_norm_eps", "scale_emb", "scale_depth", "dim_model_base"],
    "lightweight": ["query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"],
}
SIZE_KEYS = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]


def put(folder: Path, name: str, key: str, written: str) -> None:
    """Set a key of a JSON file to what no Python value is written as."""
    path = folder / name
    content = json.loads(path.read_text()) | {key: "PLACE"}
    path.write_text(json.dumps(content).replace('"PLACE"', written))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("written", ["1000000000", "9223372036854775808", "1" + "0" * 400, "true", "6.5", '"64"'])
def test_impossible_sizes_are_named_at_once(copy: CopyOf, family: str, written: str) -> None:
    folder = copy(family).folder
    original = (folder / "config.json").read_text()
    for key in SIZE_KEYS:
        put(folder, "config.json", key, written)
        fails(folder, CheckpointError, "config.json", key)
        (folder / "config.json").write_text(original)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [1 << 12, 1 << 20, 1 << 24])
def test_large_sizes_are_compared_with_the_files(copy: CopyOf, family: str, value: int) -> None:
    """Nothing so large is allocated: 2**24 rows of 2**24 columns would be 10**15 bytes."""
    fails(copy(family).config(vocab_size=value, hidden_size=value, head_dim=32).folder, CheckpointError)
    fails(copy(family, "again").config(intermediate_size=value).folder, WeightsError, f"{value}")


@pytest.mark.parametrize("layers", [5, 4096, 10**6])
def test_layers_that_the_files_do_not_have(copy: CopyOf, layers: int) -> None:
    fails(copy().config(num_hidden_layers=layers).folder, CheckpointError, "layer")


@pytest.mark.parametrize(("family", "key"), [(family, key) for family, keys in FLOAT_KEYS.items() for key in keys])
@pytest.mark.parametrize("written", ["Infinity", "-Infinity", "NaN", "0", "-1.5", "1e300", "1" + "0" * 400])
def test_numbers_out_of_bounds_are_named(copy: CopyOf, family: str, key: str, written: str) -> None:
    folder = copy(family).folder
    put(folder, "config.json", key, written)
    fails(folder, CheckpointError, "config.json", key)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    "written", ["1" * 5000, '"\\ud800"', '{"content": "\\udfff"}'], ids=["digits", "half", "inner"]
)
def test_no_file_of_settings_raises_anything_else(copy: CopyOf, file: str, written: str) -> None:
    folder = copy("llm").folder
    put(folder, file, "bos_token", written)
    fails(folder, CheckpointError, file)


ROPE = {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize("given", [ROPE, {"full_attention": ROPE, "sliding_attention": ROPE}, {}, {"type": "default"}])
def test_rotary_positions_as_newer_files_have_them(copy: CopyOf, given: dict[str, Any], scorers: Scorers) -> None:
    changed = copy("lightweight").config(rope_parameters=given)
    if "type" not in given and given:
        changed.config(rope_theta=None)
    with load_scorer(changed.folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers("lightweight").score("q", ["a text"])


@pytest.mark.parametrize(
    "given",
    [
        {"full_attention": ROPE, "sliding_attention": ROPE | {"rope_theta": 5.0}},
        {"full_attention": ROPE, "sliding_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0}},
        {"full_attention": ROPE, "rope_theta": 10000.0},
        {"full_attention": {"inner": ROPE}},
        ROPE | {"rope_type": "yarn"},
        ROPE | {"partial_rotary_factor": 0.5},
        ROPE | {"rope_theta": "many"},
        ROPE | {"rope_theta": float("inf")},
        [ROPE],
    ],
)
def test_rotary_positions_that_are_not_known(copy: CopyOf, given: Any) -> None:
    fails(copy("lightweight").config(rope_parameters=given).folder, CheckpointError, "rop", "config.json")


def test_a_theta_in_the_new_place_counts(copy: CopyOf, scorers: Scorers) -> None:
    old = copy("llm").config(rope_theta=50.0)
    with load_scorer(old.folder) as scorer:
        expected = scorer.score("q", ["a longer text", "b"])
    new = copy("llm", "new").config(rope_theta=None, rope_parameters={"full": ROPE | {"rope_theta": 50.0}})
    with load_scorer(new.folder) as scorer:
        assert scorer.score("q", ["a longer text", "b"]) == expected
    assert scorers("llm").score("q", ["a longer text", "b"]) != expected


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_no_floating_point_numbers(copy: CopyOf, family: str, dtype: torch.dtype) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        name = min(name for name, tensor in tensors.items() if tensor.dim() == 2)
        tensors[name] = tensors[name].to(dtype)

    fails(copy(family).tensors(change).folder, WeightsError, ".weight holds numbers of the type", "quantized")


def test_double_precision_loads(copy: CopyOf, scorers: Scorers) -> None:
    changed = copy().tensors(lambda tensors: tensors.update({QUERY: tensors[QUERY].double()}))
    with load_scorer(changed.folder) as scorer:
        assert scorer.score("q", ["a"]) == scorers("encoder").score("q", ["a"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantization_config_is_named(copy: CopyOf, family: str) -> None:
    changed = copy(family).config(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    fails(changed.folder, CheckpointError, "quantization_config", "bitsandbytes", "int8")


@pytest.mark.parametrize(
    ("named", "shown"), [({"load_in_8bit": True, "load_in_4bit": False}, "load_in_8bit"), ({}, "no known method")]
)
def test_a_quantization_config_without_a_method(copy: CopyOf, named: dict[str, Any], shown: str) -> None:
    fails(copy().config(quantization_config=named).folder, CheckpointError, "quantization_config", shown)


@pytest.mark.parametrize("part", ["qweight", "SCB", "weight_scale", "quant_state.bitsandbytes__nf4"])
def test_quantized_weights_of_which_config_says_nothing(copy: CopyOf, part: str) -> None:
    changed = copy("llm").tensors(lambda tensors: tensors.update({f"model.layers.1.mlp.up_proj.{part}": torch.ones(2)}))
    fails(changed.folder, WeightsError, part, "quantized", "use the model that they were made from")


def add_tokens(folder: Path, count: int) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    size = len(content["model"]["vocab"])
    content["added_tokens"] += [
        {"id": size + i, "content": f"<new{i}>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True} for i in range(count)
    ]  # fmt: skip
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_larger_than_the_embedding(copy: CopyOf, family: str) -> None:
    folder = copy(family).folder
    add_tokens(folder, 2)
    fails(folder, CheckpointError, "2 tokens", "'<new0>'", "embedding")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_of_another_model(copy: CopyOf, family: str) -> None:
    other = copy("llm" if family == "encoder" else "encoder").folder
    folder = copy(family, "mixed").folder
    content = json.loads((other / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary += [[f"<word{i}>", -99.0] for i in range(500)]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    fails(folder, CheckpointError, "the tokenizer has")


def test_positions_that_the_files_do_not_have(copy: CopyOf) -> None:
    fails(copy().config(max_position_embeddings=8194).folder, WeightsError, "position_embeddings", "(514, 64)")


@pytest.mark.parametrize("pad", [0, 2, 600])
def test_a_padding_token_that_the_tokenizer_does_not_have(copy: CopyOf, pad: int) -> None:
    """Positions count from it, so that another would shift them all."""
    fails(copy().config(pad_token_id=pad).folder, CheckpointError, "pad_token_id", str(pad))


@pytest.mark.parametrize("labels", [{"id2label": {"0": "a", "1": "b", "2": "c"}}, {"id2label": None, "num_labels": 3}])
def test_several_labels_in_config(copy: CopyOf, labels: dict[str, Any]) -> None:
    fails(copy().config(**labels).folder, WeightsError, "config.json names 3 labels, but", "1 label", '"id2label": {')


@pytest.mark.parametrize("count", [3, 4])
def test_several_labels_in_the_head(copy: CopyOf, count: int) -> None:
    def widen(tensors: dict[str, Tensor]) -> None:
        tensors["classifier.out_proj.weight"] = torch.zeros(count, 64)
        tensors["classifier.out_proj.bias"] = torch.zeros(count)

    labels = {str(i): f"LABEL_{i}" for i in range(count)}
    folder = copy().tensors(widen).config(id2label=labels).folder
    fails(folder, WeightsError, "classifier", f"({count}, 64)", f"config.json names {count} labels")
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"]
    (folder / "config.json").write_text(json.dumps(config))
    fails(folder, WeightsError, f"({count}, 64)", "config.json does not say how many")
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "LABEL_0"}}))
    fails(folder, WeightsError, f"({count}, 64)", f"makes {count} labels", "config.json names 1 label;")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.model."])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_of_a_wrapper_is_left_out(copy: CopyOf, family: str, prefix: str, scorers: Scorers) -> None:
    def wrap(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    folder = copy(family).tensors(wrap).folder
    with load_scorer(folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers(family).score("q", ["a text"])
    shard(folder)
    with load_scorer(folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers(family).score("q", ["a text"])


def test_what_lies_beside_a_wrapped_model_is_named(copy: CopyOf) -> None:
    """And the model is not taken for one without a head."""

    def wrap(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[f"model.{name}"] = tensors.pop(name)
        tensors["loss.weight"] = torch.ones(1)

    changed = copy().tensors(wrap)
    fails(changed.folder, WeightsError, "has loss.weight, which XLMRobertaForSequenceClassification does not have")
    changed.tensors(lambda tensors: tensors.update({"teacher.classifier.weight": torch.ones(1)}))
    fails(changed.folder, WeightsError, "lacks classifier.", "model.classifier.", "instead")


def test_norms_as_tensorflow_names_them(copy: CopyOf, scorers: Scorers) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if "LayerNorm." in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)

    with load_scorer(copy().tensors(rename).folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers("encoder").score("q", ["a text"])


def test_a_prefix_of_some_tensors_is_named(copy: CopyOf) -> None:
    changed = copy().tensors(lambda tensors: tensors.update({f"module.{QUERY}": tensors.pop(QUERY)}))
    fails(changed.folder, WeightsError, f"lacks {QUERY}", f"module.{QUERY} instead")


def stale(folder: Path, name: str) -> tuple[str, str]:
    """Put a broken copy of a tensor into the shard that does not own it; returns that shard and the right one."""
    weight_map = shard(folder)
    right = weight_map[name]
    (wrong,) = set(weight_map.values()) - {right}
    tensors = load_file(folder / wrong)
    with safe_open(folder / right, framework="pt") as file:
        tensors[name] = file.get_tensor(name) + 1
    save_file(tensors, folder / wrong)
    return wrong, right


@pytest.mark.parametrize("name", [QUERY, "roberta.encoder.layer.2.attention.self.query.bias"])
def test_of_two_copies_the_one_that_the_index_names_counts(copy: CopyOf, name: str, scorers: Scorers) -> None:
    folder = copy().folder
    stale(folder, name)
    with load_scorer(folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers("encoder").score("q", ["a text"])


def test_an_index_that_the_shards_contradict(copy: CopyOf) -> None:
    folder = copy().folder
    weight_map = shard(folder)
    index = folder / "model.safetensors.index.json"
    other = next(file for file in weight_map.values() if file != weight_map[QUERY])
    index.write_text(json.dumps({"weight_map": weight_map | {QUERY: other}}))
    fails(folder, WeightsError, other, QUERY, "index")
    del weight_map[QUERY]
    index.write_text(json.dumps({"weight_map": weight_map}))
    fails(folder, WeightsError, QUERY, "index")


def test_an_untied_head_that_is_missing(copy: CopyOf) -> None:
    fails(copy("llm").config(tie_word_embeddings=False).folder, WeightsError, "lm_head.weight", "tie_word_embeddings")


def test_a_tied_head_may_be_written_out(copy: CopyOf, scorers: Scorers) -> None:
    changed = copy("llm").tensors(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    with load_scorer(changed.folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers("llm").score("q", ["a text"])


def test_a_tied_head_that_is_not_the_embeddings(copy: CopyOf) -> None:
    changed = copy("llm").tensors(lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 2}))
    fails(changed.folder, WeightsError, "lm_head.weight", "tie_word_embeddings")
    fails(changed.config(tie_word_embeddings=True).folder, WeightsError, "lm_head.weight", "tie_word_embeddings")


def test_files_that_begin_with_a_byte_order_mark(copy: CopyOf, scorers: Scorers) -> None:
    folder = copy().folder
    for file in ("config.json", "tokenizer_config.json"):
        (folder / file).write_bytes(b"\xef\xbb\xbf" + (folder / file).read_bytes())
    with load_scorer(folder) as scorer:
        assert scorer.score("q", ["a text"]) == scorers("encoder").score("q", ["a text"])


@pytest.mark.parametrize("family", DECODERS)
def test_the_first_token_comes_from_the_template_where_no_file_names_it(copy: CopyOf, family: str) -> None:
    (case,) = [c for c in golden()["cases"] if (c["family"], c["pairs"], c["call"]) == (family, "france", {})]
    expected = pytest.approx(case["scores"], abs=1e-4)
    folder = copy(family).folder
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token": "<unknown>"}))
    with load_scorer(folder, devices="cpu") as scorer:
        assert scorer.score_pairs(pairs("france")) == expected
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink()
    with load_scorer(folder, devices="cpu") as scorer:
        assert scorer.score_pairs(pairs("france")) == expected


def test_the_first_token_of_gemma_where_nothing_names_it(copy: CopyOf, scorers: Scorers) -> None:
    folder = copy("llm").folder
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink()
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    with load_scorer(folder, devices="cpu") as scorer:
        assert scorer.score("q", ["a text"]) == scorers("llm").score("q", ["a text"])


@pytest.mark.parametrize(
    ("family", "remaining"),
    [("layerwise", None), ("lightweight", None), *((family, {"bos_token": "<unknown>"}) for family in DECODERS)],
)
def test_a_first_token_that_nothing_names_is_refused(copy: CopyOf, family: str, remaining: Any) -> None:
    folder = copy(family).folder
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink() if remaining is None else (folder / file).write_text(json.dumps(remaining))
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    fails(folder, CheckpointError, "begins with", "tokenizer_config.json")


def test_no_first_token_where_the_files_say_so(copy: CopyOf, scorers: Scorers) -> None:
    folder = copy("layerwise").folder
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token": None}))
    with load_scorer(folder) as scorer:
        assert scorer.score("q", ["a"]) != scorers("layerwise").score("q", ["a"])


@pytest.mark.parametrize("positions", [130, 514])
def test_only_a_length_that_somebody_set_warns(copy: CopyOf, positions: int) -> None:
    name = "roberta.embeddings.position_embeddings.weight"
    changed = copy().tensors(lambda tensors: tensors.update({name: tensors[name][:positions]}))
    folder = changed.config(max_position_embeddings=positions).folder
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_scorer(folder).close()
    with pytest.warns(UserWarning, match=f"{positions - 2} is used"):
        load_scorer(folder, max_length=600).close()


@pytest.mark.parametrize("family", DECODERS)
def test_a_first_token_that_pads_as_well(copy: CopyOf, family: str, scorers: Scorers) -> None:
    """The publisher's llm class leaves it out then, and the other two do not."""
    folder = copy(family).folder
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | {"pad_token": content["bos_token"]}))
    with load_scorer(folder) as scorer:
        same = scorer.score("q", ["a text"]) == scorers(family).score("q", ["a text"])
    assert same == (family != "llm")


def test_a_file_without_tensors(copy: CopyOf) -> None:
    fails(copy().tensors(lambda tensors: tensors.clear()).folder, WeightsError, "holds no tensors")
