"""The six published models, and the publisher's advice which one to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bge_rerank_integrations.errors import OptionError

Language = Literal["english", "chinese", "multilingual"]
Lang = Literal["en", "zh"]
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
    languages_zh: str
    """`languages` in Chinese."""
    good_for_zh: str
    """`good_for` in Chinese."""


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
        languages_zh="中文和英文",
        good_for_zh="小而快，易于部署",
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
        languages_zh="中文和英文",
        good_for_zh="比 base 更准确，同样易于部署",
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
        languages_zh="多语言",
        good_for_zh="建议首先尝试；支持多种语言和长文本，推理快",
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
        languages_zh="多语言",
        good_for_zh="英文和多语言场景下效果好",
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
        languages_zh="多语言，中文和英文最佳",
        good_for_zh="效果好；可选择第 8 至 40 层中的任意一层输出分数，以调节速度",
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
        languages_zh="多语言",
        good_for_zh="最大的模型；可以提前从较低的层输出分数，也可以合并段落的 token，以节省时间",
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


_ADVICE: dict[Lang, str] = {
    "en": "For {language} texts, {priority}: try {names}. Then test on your own data.",
    "zh": "{language}文本，{priority}：先试 {names}。然后在自己的数据上测试。",
}
_THEN: dict[Lang, str] = {"en": ", then ", "zh": "，再试 "}
_CHINESE = {
    "english": "英文",
    "chinese": "中文",
    "multilingual": "多语言",
    "balanced": "兼顾效果与效率",
    "efficiency": "效率优先",
    "performance": "效果优先",
}


def advice(language: Language = "multilingual", priority: Priority = "balanced", lang: Lang = "en") -> str:
    """What `recommend` says, as a sentence in English ("en") or Chinese ("zh")."""
    if lang not in _ADVICE:
        raise OptionError(f"lang={lang!r}: use 'en' or 'zh'")
    names = _THEN[lang].join(model.name for model in recommend(language, priority))
    words = (_CHINESE[language], _CHINESE[priority]) if lang == "zh" else (language, priority)
    return _ADVICE[lang].format(language=words[0], priority=words[1], names=names)
