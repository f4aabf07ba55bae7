"""Use the package as it was installed, without extras: its metadata, each of its modules, and a scorer."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path
from pkgutil import walk_packages

import bge_rerank_integrations
from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import MissingExtraError

NAME = "bge_rerank_integrations"
NEEDS_AN_EXTRA = {
    "dataset",
    "ray",
    "langchain",
    "llama_index",
    "retrieval",
    "words",
    "demo.show",
    "evaluation",
    "remote.recognise",
    "remote.scorer",
    "remote.transport",
    "serve",
}
"""What must not import without extras; the command line is tried afterwards, with its own."""
NEEDS_TRITON = {"model.nn.fused.kernels", "model.nn.fused.operators"}
"""What only GPUs import: Triton comes with a torch that is built for CUDA."""


def modules() -> list[str]:
    """Every module but the command line's, as named in the package; a folder that needs an extra counts as one."""
    found = walk_packages(bge_rerank_integrations.__path__, f"{NAME}.")
    names = [module.name.removeprefix(f"{NAME}.") for module in found]
    return [name for name in names if name.split(".")[0] not in ("cli", "__main__") and name not in NEEDS_TRITON]


def refusal(module: str) -> str:
    """What a module says about the extra it needs; empty if it needs none. Any other error ends the check."""
    try:
        import_module(f"{NAME}.{module}")
    except MissingExtraError as error:
        return str(error)
    return ""


def main() -> None:
    assert Path(sys.prefix) in Path(bge_rerank_integrations.__file__).parents, bge_rerank_integrations.__file__
    relative = re.findall(r"\]\((?!https?:|#)[^)]*\)", metadata("bge-rerank-integrations").json["description"])
    assert not relative, f"links that lead nowhere on a package index: {relative}"
    names = modules()
    assert len(names) > 40, names
    refusals = {name: said for name in names if (said := refusal(name))}
    assert refusals.keys() == NEEDS_AN_EXTRA, refusals.keys() ^ NEEDS_AN_EXTRA
    for said in refusals.values():
        assert "pip install" in said, said
        assert "\n" not in said, said
    with load_scorer("demo") as scorer:
        away, best = scorer.score("What is the capital of France?", ["Bread is baked.", "Paris is the capital."])
    assert best > away
    print(f"{len(names)} modules, {len(refusals)} of which ask for an extra; demo scores {best:.2f} over {away:.2f}")


if __name__ == "__main__":
    main()
