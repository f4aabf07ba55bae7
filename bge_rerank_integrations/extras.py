"""Optional dependencies: the packages of each extra in pyproject.toml, and an error of one line if one is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from bge_rerank_integrations.errors import MissingExtraError

_CLI = {"rich": "rich", "typer": "typer"}
_BM25 = {"bm25s": "bm25s", "Stemmer": "PyStemmer"}
_TOML = {"tomli": "tomli"} if sys.version_info < (3, 11) else {}
_DATASET = {**_CLI, "filelock": "filelock", "pyarrow": "pyarrow"}
_SERVE = {**_CLI, "fastapi": "fastapi", "prometheus_client": "prometheus-client", "uvicorn": "uvicorn"}

MODULES = {
    "cli": _CLI,
    "demo": {**_CLI, **_BM25, "langchain_core": "langchain-core", "llama_index": "llama-index-core"},
    "evaluate": {
        **_CLI,
        **_BM25,
        **_TOML,
        "filelock": "filelock",
        "ir_measures": "ir-measures",
        "matplotlib": "matplotlib",
        "numpy": "numpy",
        "pytrec_eval": "pytrec-eval-terrier",
        "scipy": "scipy",
    },
    "remote": {"httpx": "httpx", "tenacity": "tenacity"},
    "dataset": _DATASET,
    "ray": {**_DATASET, **_SERVE, "ray": "ray[serve]"},
    "serve": _SERVE,
}
"""For each extra: the modules that are imported, and the packages that they come in."""


def require(extra: str) -> None:
    """Check that the modules of an extra are installed, without importing them.

    Code that needs an extra calls this before its own imports: missing modules are then an error of one line, and are
    found before hours of work.

    Raises:
        MissingExtraError: names all packages that are not installed, and the extra.
    """
    missing = [package for module, package in MODULES[extra].items() if find_spec(module) is None]
    if missing:
        raise MissingExtraError(missing, extra)
