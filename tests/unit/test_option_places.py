"""An option stands in `options.py`, in `load_scorer`'s signature, and where it is used. All else is derived."""

from __future__ import annotations

import ast
import inspect
from dataclasses import MISSING, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.evaluation.configurations import KEYS, RANKING
from bge_rerank_integrations.options import GROUPS, SECRETS, EngineSettings, RankingOptions, ScoringOptions, names
from tests.unit.test_structure import MODULES

WRITTEN = ("options", "loading")
USED = ("scorer", "model.inputs", "model.joined_inputs", "model.ruler", "model.families.*")
RANKING_USED = {
    "long": ("bench.*", "evaluation.*", "model.*"),  # torch's integers, and a workload
    "window_overlap": ("rerank_fields", "evaluation.*"),
    "max_windows": ("rerank_fields", "evaluation.*"),
    "metadata_fields": ("option_values", "text_choice", "rerank_fields", "langchain", "llama_index", "other_names"),
    "fusion": ("fusion", "evaluation.configurations"),
    "fusion_weight": ("fusion", "evaluation.configurations", "evaluation.fusing", "rerank_fields"),
    "blank": ("remote.*", "evaluation.scoring"),  # what a server is sent in place of such a text
}
"""Where names of ranking options stand besides `reranking`."""
OTHER_INTERFACES = ("flag*", "cli*", "serve*", "other_names", "remote.dialects", "dataset*", "ray*")
"""The publisher's arguments, the words of commands and requests, and what others call the options: chosen by hand."""
OTHER_MEANINGS = {
    "prompt": ("model.sentence_transformers",),  # a key of its files
    # of attention's logits; of a workload; what a ranking's scores are shown on, where a scorer says it
    "scale": ("model.nn.*", "bench.*", "ranking", "reranking", "fusion", "rerank_fields", "model.lora", "remote.*"),
    "max_length": ("bench.peers", "windows", "reranking"),  # an argument of sentence-transformers
}


def words(path: Path) -> set[str]:
    """Every name in a file's code, and every string that is one: docstrings, comments and messages are no code."""
    found: set[Any] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.keyword(arg=word):
                found.add(word)
            case ast.AnnAssign(target=ast.Name(id=word)) | ast.Constant(value=str(word)):
                found.add(word)
    return found


WORDS = {module: words(path) for module, path in MODULES.items()}


@pytest.mark.parametrize("option", names(ScoringOptions))
def test_a_scoring_option_is_named_where_it_is_used_and_nowhere_else(option: str) -> None:
    allowed = (*WRITTEN, *USED, *OTHER_INTERFACES, *OTHER_MEANINGS.get(option, ()))
    places = [module for module, known in WORDS.items() if option in known]
    assert [place for place in places if not any(fnmatch(place, pattern) for pattern in allowed)] == []
    assert set(WRITTEN) < set(places)  # and it is used somewhere


@pytest.mark.parametrize("option", names(RankingOptions))
def test_a_ranking_option_is_named_where_it_is_used_and_nowhere_else(option: str) -> None:
    allowed = ("options", "reranking", "cli*", *RANKING_USED.get(option, ()))
    places = [module for module, known in WORDS.items() if option in known]
    assert [place for place in places if not any(fnmatch(place, pattern) for pattern in allowed)] == []
    assert {"options", "cli.rank"} < set(places)


def test_the_signature_of_load_scorer_is_that_of_the_options() -> None:
    options = [field for group in GROUPS for field in fields(group)]
    parameters = inspect.signature(load_scorer).parameters.values()
    annotations = {parameter.name: parameter.annotation for parameter in parameters}
    defaults = {parameter.name: parameter.default for parameter in parameters}
    in_order = ["model", *(name for group in GROUPS for name in names(group) if name != "model")]
    assert list(annotations) == _scoring_before_engine(in_order)
    assert annotations == {field.name: field.type for field in options}
    assert {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty} == {
        field.name: field.default for field in options if field.default is not MISSING
    }


def _scoring_before_engine(option_names: list[str]) -> list[str]:
    engine = names(EngineSettings)
    return sorted(option_names, key=lambda name: name in engine)


def test_configurations_take_whatever_scores_depend_on() -> None:
    assert set(KEYS) - {"name"} == {
        name
        for group in GROUPS
        if group is not EngineSettings
        for name in names(group)
        if name not in ("model", "concurrency", *SECRETS)
    } | set(RANKING)
