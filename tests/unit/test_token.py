"""A token goes to the hub, and nowhere else."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import Any

import pytest

from bge_rerank_integrations import langchain, llama_index, load_scorer
from bge_rerank_integrations.errors import OptionError, RerankError
from bge_rerank_integrations.evaluation.configurations import read_configurations
from bge_rerank_integrations.options import SECRETS, ModelSource
from tests.conftest import CHECKPOINTS

TOKEN = "hf_nobodyMayReadThis"
ENCODER = str(CHECKPOINTS / "encoder")
ADAPTERS = [langchain.BGERerank, langchain.BGECrossEncoder, llama_index.BGERerank]


def test_the_secrets_are_known() -> None:
    assert SECRETS == ("token", "api_key")


def test_the_source_of_a_model_does_not_show_it() -> None:
    source = ModelSource(ENCODER, token=TOKEN)
    assert source.token == TOKEN
    assert TOKEN not in repr(source)
    assert TOKEN.encode() not in pickle.dumps(source)
    assert pickle.loads(pickle.dumps(source)) == ModelSource(ENCODER)


def test_a_pickled_scorer_does_not_carry_it() -> None:
    with load_scorer(ENCODER, token=TOKEN) as scorer:
        written = pickle.dumps(scorer)
        assert TOKEN not in repr(scorer)
    assert TOKEN.encode() not in written
    with pickle.loads(written) as again:
        assert len(again.score("q", ["a"])) == 1


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_keeps_it_to_itself(adapter: Any) -> None:
    made = adapter(model=ENCODER, token=TOKEN)
    shown = [repr(made), str(made), str(made.model_dump()), made.model_dump_json()]
    if hasattr(made, "to_dict"):
        shown += [json.dumps(made.to_dict(), default=str), made.to_json()]
    assert not any(TOKEN in text for text in shown)
    assert TOKEN.encode() not in pickle.dumps(made)
    assert pickle.loads(pickle.dumps(made)) == made
    for kept in (copy.copy(made), copy.deepcopy(made), made.model_copy(), made.with_options(max_length=9)):
        assert kept.token == TOKEN


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("wrong", [{"max_length": 0}, {"family": "gpt"}, {"scale": 3}, {"nothing": 1}, {"model": None}])
def test_an_error_about_another_field_does_not_show_it(adapter: Any, wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError) as raised:
        adapter(**{"model": ENCODER, "token": TOKEN, **wrong})
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f" {TOKEN}", "", f"{TOKEN}é", 3, TOKEN.encode()])
def test_what_is_no_token_is_refused_without_showing_it(token: Any) -> None:
    with pytest.raises(OptionError, match="token") as raised:
        load_scorer(ENCODER, token=token)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize("given", [f"demo,token={TOKEN}", {"model": "demo", "token": TOKEN}])
def test_configurations_are_written_down_and_take_none(given: Any) -> None:
    with pytest.raises(RerankError, match="set HF_TOKEN") as raised:
        read_configurations(given)
    assert TOKEN not in str(raised.value)
