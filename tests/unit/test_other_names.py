"""Names that people know from other rerankers: errors say what they are called here."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import DeviceError, OptionError
from bge_rerank_integrations.langchain import BGECrossEncoder, BGERerank
from bge_rerank_integrations.llama_index import BGERerank as Postprocessor
from bge_rerank_integrations.options import GROUPS, names
from bge_rerank_integrations.other_names import HINTS, OPTIONS, REMEDIES, WRITTEN

KINDS = [BGERerank, Postprocessor, BGECrossEncoder]
RERANKERS = KINDS[:2]


def refusal(kind: Any, **fields: Any) -> str:
    with pytest.raises(OptionError) as caught:
        kind(**{"model": "demo"} | fields)
    said = str(caught.value)
    assert "\n" not in said
    assert "pydantic" not in said
    return said


def test_the_table_names_options_that_there_are() -> None:
    known = {*RERANKERS[0].model_fields, *(name for group in GROUPS for name in names(group))}
    assert set(OPTIONS.values()) <= known
    assert set(WRITTEN) <= set(OPTIONS.values())
    assert not (set(OPTIONS) | set(REMEDIES)) & known
    assert all(WRITTEN[option].startswith(option) for option in WRITTEN)


@pytest.mark.parametrize("kind", RERANKERS)
@pytest.mark.parametrize("name", HINTS)
def test_every_name_is_answered_with_what_to_use(name: str, kind: Any) -> None:
    assert refusal(kind, **{name: 3}) == f"{name} is not a field of BGERerank: use {HINTS[name]}"
    made = kind(model="demo")
    with pytest.raises(OptionError, match=f"^{name} is not a field"):
        setattr(made, name, 3)
    with pytest.raises(OptionError, match=f"^{name} is not a field"):
        made.with_options(**{name: 3})
    with pytest.raises(ValueError, match=f"{name} is not a field"):
        kind.model_validate_json(json.dumps({"model": "demo", name: 3}))


@pytest.mark.parametrize(
    ("name", "field"),
    {
        "top_k": "top_n", "k": "top_n", "device": "devices", "model_name": "model", "use_fp16": "dtype",
        "normalize": "scale='sigmoid'", "cutoff_layers": "cutoff_layer", "cache_folder": "cache_dir",
        "batch_size": "token_budget", "model_kwargs": "the options themselves", "query_prefix": "query_instruction",
        "base_url": "the server's address as model", "jina_api_key": "api_key", "minimum_score": "score_threshold",
        "cross_encoder_kwargs": "the options themselves", "trust_remote_code": "nothing in its place",
    }.items(),
)  # fmt: skip
def test_some_of_them(name: str, field: str) -> None:
    assert f"{name} is not a field of BGERerank: use {field}" in refusal(BGERerank, **{name: 3})


def test_several_at_once_are_all_named() -> None:
    said = refusal(BGERerank, top_k=3, device="cpu", nonsense=1)
    assert said.startswith("top_k is not a field of BGERerank: use top_n; device is not a field of BGERerank: use dev")
    assert "nonsense is not a field of BGERerank: use one of" in said


@pytest.mark.parametrize("name", ["top_n", "top_k", "score_threshold", "threshold"])
def test_a_cross_encoder_says_who_cuts(name: str) -> None:
    field = OPTIONS.get(name, name)
    said = refusal(BGECrossEncoder, **{name: 3})
    assert said == f"{name} is not a field of BGECrossEncoder: use {field} of what ranks, such as BGERerank"


def test_a_scorer_names_only_what_it_can_change(encoder: Scorer) -> None:
    for name, said in (("normalize", "use scale='sigmoid'"), ("top_k", "use one of max_length"),
                       ("device", "use one of max_length"), ("cutoff_layers", "use cutoff_layer")):  # fmt: skip
        with pytest.raises(OptionError, match=f"unknown option '{name}': {said}"):
            encoder.with_options(**{name: 3})


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_one_line_and_name_the_value(kind: Any, encoder: Scorer) -> None:
    assert refusal(kind, max_length="many").startswith("max_length='many' of type str: input should be a valid integer")
    assert refusal(kind, max_length=True) == "max_length=True: use a whole number"
    assert refusal(kind, scale="percent").startswith(
        "scale='percent' of type str: input should be 'logit' or 'sigmoid'"
    )
    assert refusal(kind, devices=3.5).startswith("devices=3.5: use a name such as 'cpu' or 'cuda:0'")
    assert refusal(kind, devices=["cpu", None]).startswith("devices=['cpu', None]: use a name")
    assert refusal(kind, dtype=torch.float64) == (
        "dtype='torch.float64': use 'auto', 'float32', 'float16', 'bfloat16', 'int8', 'fastest'"
    )
    assert refusal(kind, model=encoder).endswith("give a hub id or a folder; what load_scorer returned is scorer=")
    assert refusal(kind, scorer="demo").startswith("scorer='demo' of type str has no ")
    assert refusal(kind, model=None).startswith("give model=")
    both = refusal(kind, max_length="many", family=3)
    assert "max_length='many'" in both
    assert "family=3" in both
    with pytest.raises(TypeError, match=f"^{kind.__name__} takes its fields by name, such as model='demo'$"):
        kind("demo")


# --- devices and dtypes in every common form --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "field"),
    [
        (0, "cuda:0"),
        (torch.device("cpu"), "cpu"),
        (torch.device("cuda", 1), "cuda:1"),
        ("cpu", "cpu"),
        ([0, torch.device("cpu")], ["cuda:0", "cpu"]),
        (("cpu", "cpu"), ["cpu", "cpu"]),
        (None, None),
    ],
)
def test_devices(given: Any, field: Any, kind: Any) -> None:
    assert kind(model="demo", devices=given).devices == field
    made = kind(model="demo")
    made.devices = given
    assert made.devices == field


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [torch.bfloat16, "bfloat16", "bf16"])
def test_dtypes(given: Any, kind: Any) -> None:
    assert kind(model="demo", dtype=given).dtype == "bfloat16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_that_is_not_there_is_said_at_the_first_use(kind: Any) -> None:
    made = kind(model="demo", devices=0)
    with pytest.raises(DeviceError, match=r"device 'cuda:0' does not exist: .* no CUDA device; 'cpu' always works"):
        made.warm_up()
    with pytest.raises(DeviceError, match="'cuda:0' does not exist"):
        load_scorer("demo", devices=0)


def test_load_scorer_takes_them_too() -> None:
    with load_scorer("demo", devices=torch.device("cpu"), dtype=torch.float32) as scorer:
        assert len(scorer.score("q", ["a"])) == 1
    with pytest.raises(DeviceError, match=r"device 3.5: use a name"):
        load_scorer("demo", devices=3.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_is_as_good_as_a_list_of_one(kind: Any) -> None:
    assert kind(model="demo", compress_layers=4) == kind(model="demo", compress_layers=[4])
