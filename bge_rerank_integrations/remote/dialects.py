"""What each engine is asked, what it answers, and where its limits are: one entry of a table for each.

Checked against the engines' source or by running them, in November 2026: text-embeddings-inference 1.9.3, vLLM 0.33,
Infinity 0.0.78, SGLang 0.5.23, llama.cpp, Cohere, Jina, Voyage, Xinference 4.1, LiteLLM 1.110.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import Scale


@dataclass(frozen=True)
class Ask:
    """One request: a query with texts, and what is wanted of their scores."""

    query: str
    texts: Sequence[str]
    scale: Scale
    model: str | None
    options: Mapping[str, Any]
    """Scoring options for this request, by name: of those that the dialect has, those that are not as by default."""


@dataclass(frozen=True)
class Dialect:
    """How one kind of server is talked to."""

    path: str
    body: Callable[[Ask], dict[str, Any]]
    scales: tuple[Scale, ...]
    """What its scores can be: raw logits, numbers from 0 to 1, or either as it is asked."""
    results: str | None = "results"
    """The key of the answer that holds the list of results; None: the answer is the list."""
    score: str = "relevance_score"
    texts: int = 1000
    """Most texts in a request."""
    content_bytes: int = 8_000_000
    """Most bytes in a request's body."""
    text_characters: int | None = None
    """Most characters of a text: a longer one is cut there, far after what any model reads."""
    blank: str | None = None
    """What is sent for a text without letters; None: the text itself."""
    refuses_blanks: bool = False
    """Whether it cannot score texts without letters at all."""
    one_by_one_on_500: bool = False
    """Whether one bad text fails its whole request, so that the others are to be asked for alone."""
    needs_model: bool = False
    one_model: bool = False
    """Whether a request cannot name a model."""
    options: tuple[str, ...] = ()
    """The scoring options besides `scale` that a request can set."""
    signature: tuple[str, tuple[str, ...]] | None = None
    """A key of its answers and what its value begins with, where others answer the same request in another scale."""
    tells_model: bool = False
    """Whether its answers name the model that scored, which need not be the one that was asked for."""
    model_header: str | None = None
    """A header that names the model as well, for what hands requests on without a look at their bodies."""
    failure: float | None = None
    """A score that means that scoring failed."""


def _bge_rerank(ask: Ask) -> dict[str, Any]:
    named = {} if ask.model is None else {"model": ask.model}
    return {**named, "query": ask.query, "texts": list(ask.texts), "raw_scores": ask.scale == "logit", **ask.options}


def _documents(ask: Ask, **more: Any) -> dict[str, Any]:
    named = {} if ask.model is None else {"model": ask.model}
    return {**named, "query": ask.query, "documents": list(ask.texts), **more}


def _tei(ask: Ask) -> dict[str, Any]:
    return {
        "query": ask.query,
        "texts": list(ask.texts),
        "raw_scores": ask.scale == "logit",
        "truncate": True,
        "truncation_direction": "Right",
        "return_text": False,
    }


def _vllm(ask: Ask) -> dict[str, Any]:
    return _documents(ask, use_activation=ask.scale == "sigmoid", truncate_prompt_tokens=-1)


def _infinity(ask: Ask) -> dict[str, Any]:
    return _documents(ask, raw_scores=ask.scale == "logit", return_documents=False)


def _plain(ask: Ask) -> dict[str, Any]:
    return _documents(ask, return_documents=False)


def _cohere(ask: Ask) -> dict[str, Any]:
    return _documents(ask, top_n=len(ask.texts))


def _voyage(ask: Ask) -> dict[str, Any]:
    return _documents(ask, top_k=len(ask.texts), truncation=True)


DIALECTS: Mapping[str, Dialect] = {
    # this package's own server: TEI's requests, with the options of all families
    "bge-rerank": Dialect(
        "/rerank",
        _bge_rerank,
        ("logit", "sigmoid"),
        results=None,
        score="score",
        text_characters=200_000,
        options=("prompt", "cutoff_layer", "compress_ratio", "compress_layers"),
        model_header="serve-multiplexed-model-id",  # Ray Serve's, written as proxies let it pass
    ),
    # each text takes one of its 512 permits: requests of 32 texts, 8 at a time, leave room for others
    "tei": Dialect(
        "/rerank",
        _tei,
        ("logit", "sigmoid"),
        results=None,
        score="score",
        texts=32,
        content_bytes=1_900_000,
        one_model=True,
    ),
    # an empty document would be tokenized as another kind of sequence; /rerank, without /v1, does not ask for the key
    "vllm": Dialect("/v1/rerank", _vllm, ("logit", "sigmoid"), blank=" ", signature=("id", ("score-", "rerank-"))),
    # vLLM and llama.cpp answer its requests as well, and know nothing of raw_scores; with one model it uses that one,
    # whatever the request names
    "infinity": Dialect(
        "/rerank",
        _infinity,
        ("logit", "sigmoid"),
        texts=2048,
        text_characters=122_880,
        signature=("id", ("infinity-",)),
        tells_model=True,
    ),
    "sglang": Dialect("/v1/rerank", _plain, ("logit",), results=None, score="score", refuses_blanks=True),
    "llamacpp": Dialect(
        "/v1/rerank",
        _documents,
        ("logit",),
        one_by_one_on_500=True,
        failure=-1e6,
        signature=("object", ("list",)),
    ),
    "cohere": Dialect("/v2/rerank", _cohere, ("sigmoid",), needs_model=True),
    "jina": Dialect("/v1/rerank", _plain, ("sigmoid",), needs_model=True),
    "voyage": Dialect("/v1/rerank", _voyage, ("sigmoid",), results="data", needs_model=True),
    # what its scores are depends on the model that it serves
    "xinference": Dialect("/v1/rerank", _plain, ("logit", "sigmoid"), needs_model=True),
    "litellm": Dialect("/v1/rerank", _cohere, ("sigmoid",), needs_model=True),
}
"""By the names that `load_scorer(dialect=...)` takes."""


def find_dialect(name: str, scale: Scale, model: str | None) -> Dialect:
    """The entry of a name, checked against what is wanted of it."""
    if name not in DIALECTS:
        raise OptionError(f"dialect={name!r}: use one of {', '.join(DIALECTS)}")
    dialect = DIALECTS[name]
    if scale not in dialect.scales:
        (given,) = dialect.scales
        why = (
            "its numbers lie between 0 and 1, and near the ends the logit cannot be had back from them"
            if given == "sigmoid"
            else "it gives logits; map them yourself, or use another engine"
        )
        raise OptionError(f"scale={scale!r} cannot be had from dialect {name!r}: {why}. Use scale={given!r}")
    if dialect.needs_model and not model:
        raise OptionError(f"dialect {name!r} needs the name of a model at the server: give served_model=")
    if dialect.one_model and model:
        raise OptionError(
            f"served_model={model!r}: a server of dialect {name!r} has one model, and is not told which; leave it out. "
            "(bge-rerank serve has several: dialect 'bge-rerank')"
        )
    return dialect


def guess(answer: Any) -> str | None:
    """Which dialects an answer looks like, to name them where it is not what was expected."""
    if isinstance(answer, list) and all(isinstance(one, dict) and "score" in one for one in answer):
        return "bge-rerank, tei or sglang"
    if isinstance(answer, dict) and isinstance(answer.get("data"), list):
        return "voyage"
    if isinstance(answer, dict) and isinstance(answer.get("results"), list):
        return "vllm, infinity, llamacpp, cohere, jina, xinference or litellm"
    return None
