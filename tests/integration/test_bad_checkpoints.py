"""Every way a checkpoint can be wrong gives an error that names what is wrong; nothing in one is ever executed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, OptionError, UnknownFamilyError, WeightsError
from tests.conftest import FAMILIES, Copy

CopyOf = Callable[..., Copy]
QUERY = "roberta.encoder.layer.2.attention.self.query.weight"


def fails(folder: Path, error: type[Exception], *parts: str) -> None:
    with pytest.raises(error) as caught:
        load_scorer(folder)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_tensor_is_named(copy: CopyOf) -> None:
    changed = copy().tensors(lambda tensors: tensors.pop(QUERY))
    fails(changed.folder, WeightsError, "lacks", QUERY)


def test_an_extra_tensor_is_named(copy: CopyOf) -> None:
    changed = copy().tensors(lambda tensors: tensors.update({"roberta.encoder.layer.9.extra": torch.zeros(3)}))
    fails(changed.folder, WeightsError, "roberta.encoder.layer.9.extra")


def test_a_misshapen_tensor_is_named_with_both_shapes(copy: CopyOf) -> None:
    changed = copy().tensors(lambda tensors: tensors.update({QUERY: torch.zeros(64, 63)}))
    fails(changed.folder, WeightsError, QUERY, "(64, 63)", "(64, 64)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(copy: CopyOf, value: float) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors[QUERY][3, 4] = value

    fails(copy().tensors(spoil).folder, WeightsError, QUERY, "NaN or infinity")


def test_a_classifier_of_several_labels_is_no_reranker(copy: CopyOf) -> None:
    def widen(tensors: dict[str, Tensor]) -> None:
        tensors["classifier.out_proj.weight"] = torch.zeros(3, 64)
        tensors["classifier.out_proj.bias"] = torch.zeros(3)

    fails(copy().tensors(widen).folder, WeightsError, "classifier.out_proj", "(3, 64)", "(1, 64)")


def test_an_embedding_model_is_no_reranker(copy: CopyOf) -> None:
    def strip(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if name.startswith("classifier."):
                del tensors[name]
            else:
                tensors[name.removeprefix("roberta.")] = tensors.pop(name)

    changed = copy().config(architectures=["XLMRobertaModel"]).tensors(strip)
    fails(changed.folder, UnknownFamilyError, "XLMRobertaModel", "embedding")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_named(copy: CopyOf, family: str, share: float) -> None:
    path = copy(family).folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    fails(path.parent, CheckpointError, "model.safetensors")


def test_no_config(copy: CopyOf) -> None:
    folder = copy().folder
    (folder / "config.json").unlink()
    fails(folder, CheckpointError, "config.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "null", "\udcff{}", "[" * 100_000])
def test_a_broken_config_is_named(copy: CopyOf, content: str) -> None:
    folder = copy().folder
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    fails(folder, CheckpointError, "config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None),
        ("hidden_size", "wide"),
        ("hidden_size", -64),
        ("hidden_size", 0),
        ("num_hidden_layers", 1.5),
        ("num_attention_heads", 5),
        ("hidden_act", "magic"),
    ],
)
def test_a_wrong_config_key_is_named(copy: CopyOf, key: str, value: object) -> None:
    fails(copy().config(**{key: value}).folder, CheckpointError, "heads" if value == 5 else key)


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": "1.0", "model": {"type": "Magic"}}'])
def test_a_missing_or_broken_tokenizer_is_named(copy: CopyOf, content: str | None) -> None:
    path = copy().folder / "tokenizer.json"
    path.unlink() if content is None else path.write_text(content)
    fails(path.parent, CheckpointError, "tokenizer.json")


class Bomb:
    """Unpickling one would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_unopened(copy: CopyOf, tmp_path: Path) -> None:
    folder = copy().folder
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    fails(folder, CheckpointError, "pytorch_model.bin", "safetensors")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_code_that_comes_with_a_checkpoint_is_never_run(copy: CopyOf, family: str, tmp_path: Path) -> None:
    folder = copy(family).config(auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}).folder
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with load_scorer(folder) as scorer:
        assert len(scorer.score("q", ["text"])) == 1
    assert not (tmp_path / "ran").exists()


def test_no_weights_at_all(copy: CopyOf) -> None:
    folder = copy().folder
    (folder / "model.safetensors").unlink()
    fails(folder, CheckpointError, "no weights")


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert", "llama"])
def test_an_unknown_architecture_is_named(copy: CopyOf, model_type: str) -> None:
    changed = copy().config(model_type=model_type, architectures=["MagicForSequenceClassification"])
    fails(changed.folder, UnknownFamilyError, "MagicForSequenceClassification", "encoder: xlm-roberta", "llm: gemma")


def test_a_config_without_a_model_type(copy: CopyOf) -> None:
    changed = copy().config(model_type=None, architectures=["MagicForSequenceClassification"])
    fails(changed.folder, UnknownFamilyError, "MagicForSequenceClassification", "no model_type", "copy config.json")


def test_a_family_that_does_not_fit_is_refused(copy: CopyOf) -> None:
    with pytest.raises(UnknownFamilyError, match="'xlm-roberta'"):
        load_scorer(copy().folder, family="llm")
    with pytest.raises(OptionError, match="encoder, llm, layerwise, lightweight"):
        load_scorer(copy("llm").folder, family="gemma")


def test_a_file_instead_of_a_folder(copy: CopyOf) -> None:
    fails(copy().folder / "config.json", CheckpointError, "is a file")


def shard(folder: Path) -> dict[str, str]:
    """Split a checkpoint into two shards with an index, as large published ones are."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return weight_map


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_load_as_one_file_does(copy: CopyOf, family: str, scorers: Callable[[str], object]) -> None:
    folder = copy(family).folder
    shard(folder)
    with load_scorer(folder) as scorer:
        assert scorer.score("q", ["a text", "b"]) == scorers(family).score("q", ["a text", "b"])  # type: ignore[attr-defined]


def test_a_missing_shard_is_named(copy: CopyOf) -> None:
    folder = copy().folder
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    fails(folder, CheckpointError, "model-00002-of-00002.safetensors")


def test_swapped_shards_are_noticed(copy: CopyOf) -> None:
    first, second = copy("encoder").folder, copy("layerwise").folder
    shard(first)
    shard(second)
    name = "model-00002-of-00002.safetensors"
    (first / name).write_bytes((second / name).read_bytes())
    fails(first, WeightsError, "lacks", "instead")


def test_a_broken_index_is_named(copy: CopyOf) -> None:
    folder = copy().folder
    shard(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    fails(folder, CheckpointError, "index.json")


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_files_load(copy: CopyOf, family: str, scorers: Callable[[str], object]) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].bfloat16()

    with load_scorer(copy(family).tensors(halve).folder) as scorer:
        assert scorer.score("q", ["a text"]) == pytest.approx(scorers(family).score("q", ["a text"]), abs=0.1)  # type: ignore[attr-defined]
