"""The six published models, and the publisher's advice which one to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bge_rerank_integrations.errors import OptionError

Language = Literal["english", "chinese", "multilingual"]
Priority = Literal["balanced", "efficiency", "performance"]


@dataclass(frozen=True)
class CatalogModel:
    """One published model, as its card and the publisher's tutorial describe it."""

    name: str
    family: str
    base_model: str
    parameters: str
    languages: str
    context: int
    """Tokens its positions allow."""
    licence: str
    good_for: str


MODELS = (
    CatalogModel(
        "BAAI/bge-reranker-base",
        family="encoder",
        base_model="XLM-RoBERTa base",
        parameters="278M",
        languages="Chinese and English",
        context=512,
        licence="MIT",
        good_for="small and fast; easy to deploy",
    ),
    CatalogModel(
        "BAAI/bge-reranker-large",
        family="encoder",
        base_model="XLM-RoBERTa large",
        parameters="560M",
        languages="Chinese and English",
        context=512,
        licence="MIT",
        good_for="more accurate than base, still easy to deploy",
    ),
    CatalogModel(
        "BAAI/bge-reranker-v2-m3",
        family="encoder",
        base_model="bge-m3",
        parameters="568M",
        languages="multilingual",
        context=8192,
        licence="Apache-2.0",
        good_for="to start with: many languages, long texts, fast",
    ),
    CatalogModel(
        "BAAI/bge-reranker-v2-gemma",
        family="llm",
        base_model="Gemma 2B",
        parameters="2.51B",
        languages="multilingual",
        context=8192,
        licence="Apache-2.0",
        good_for="quality in English and other languages",
    ),
    CatalogModel(
        "BAAI/bge-reranker-v2-minicpm-layerwise",
        family="layerwise",
        base_model="MiniCPM 2B",
        parameters="2.72B",
        languages="multilingual, best in Chinese and English",
        context=2048,
        licence="Apache-2.0",
        good_for="quality, with a choice of speed: score after any layer from 8 to 40",
    ),
    CatalogModel(
        "BAAI/bge-reranker-v2.5-gemma2-lightweight",
        family="lightweight",
        base_model="Gemma 2 9B",
        parameters="9.24B",
        languages="multilingual",
        context=8192,
        licence="Gemma",
        good_for="the largest, with two ways to save time: early layers and merged passage tokens",
    ),
)

_M3, _GEMMA, _MINICPM, _LIGHTWEIGHT = (model.name for model in MODELS[2:])
_GUIDE: dict[Priority, dict[str, tuple[str, ...]]] = {
    "balanced": {"multilingual": (_M3, _GEMMA, _LIGHTWEIGHT), "chinese or english": (_M3, _MINICPM)},
    "efficiency": {"multilingual": (_M3,), "chinese or english": (_M3, _MINICPM)},
    "performance": {"multilingual": (_GEMMA, _LIGHTWEIGHT), "chinese or english": (_MINICPM, _GEMMA)},
}


def recommend(language: Language = "multilingual", priority: Priority = "balanced") -> list[CatalogModel]:
    """The publisher's selection guide as a function. Test the choice on your own data.

    Args:
        language: of queries and texts: "english", "chinese", or "multilingual" for other languages and mixtures.
        priority: "efficiency" (for minicpm-layerwise: with a low `cutoff_layer`), "performance", or "balanced".

    Returns:
        Models to try, the first choice first.

    Source: the model lists in the publisher's README and tutorial 5.2.
    """
    if language not in ("english", "chinese", "multilingual"):
        raise OptionError(f"language={language!r}: use 'english', 'chinese' or 'multilingual'")
    if priority not in _GUIDE:
        raise OptionError(f"priority={priority!r}: use {', '.join(map(repr, _GUIDE))}")
    group = "multilingual" if language == "multilingual" else "chinese or english"
    by_name = {model.name: model for model in MODELS}
    return [by_name[name] for name in _GUIDE[priority][group]]
