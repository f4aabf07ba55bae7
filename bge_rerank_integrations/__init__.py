"""BGE rerankers for LangChain and LlamaIndex.

`load_scorer` opens a model; the adapters live in `bge_rerank_integrations.langchain` and
`bge_rerank_integrations.llama_index`, the publisher's own interface in `bge_rerank_integrations.flag`.
Importing this package imports neither torch nor any framework: the names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bge_rerank_integrations.loading import load_scorer
    from bge_rerank_integrations.ranking import Ranked
    from bge_rerank_integrations.scorer import Scorer

__version__ = "0.1.0"
__all__ = ["Ranked", "Scorer", "load_scorer"]

_HOMES = {"load_scorer": "loading", "Ranked": "ranking", "Scorer": "scorer"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
