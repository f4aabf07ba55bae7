"""How the package hangs together: what is public, what imports what, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bge_rerank_integrations

PACKAGE = Path(bge_rerank_integrations.__file__).parent
# each may import itself and what stands below; nothing may import upwards
LAYERS = (
    {"cli", "bench", "__main__", "demo", "evaluation"},
    {"langchain", "llama_index", "flag"},
    {"adapting"},
    {"loading"},
    {"scorer"},
    {"engine"},
    {"queueing", "cache", "stats"},
    {"families"},
    {"arguments"},
    {"weights", "inputs"},
    {"checkpoint", "batching"},
    {"nn"},
    {"errors", "options", "catalog", "retrieval"},
    {"__init__"},
)


def imported(path: Path) -> set[str]:
    """The package's own modules that a file imports when it is imported itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bge_rerank_integrations"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names} & set().union(*LAYERS)
    return found


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(path):
        assert layer(other) >= layer(name), f"{name} imports {other}, which stands above it"


def test_files_stay_short() -> None:
    lengths = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_public_names() -> None:
    assert bge_rerank_integrations.__all__ == ["Ranked", "Scorer", "load_scorer"]
    for name in bge_rerank_integrations.__all__:
        assert getattr(bge_rerank_integrations, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bge_rerank_integrations.nothing  # type: ignore[attr-defined]  # noqa: B018


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "langchain_core", "llama_index", "tokenizers", "pydantic", "huggingface_hub")
    assert run(f"import sys, bge_rerank_integrations; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_scoring_imports_no_adapter_and_no_transformers() -> None:
    folder = PACKAGE.parent / "tests" / "parity" / "checkpoints" / "encoder"
    code = f"""
import sys
from bge_rerank_integrations import load_scorer
with load_scorer({str(folder)!r}) as scorer:
    assert len(scorer.score("q", ["a"])) == 1
print([m for m in ("transformers", "langchain_core", "llama_index") if m in sys.modules])
"""
    assert run(code) == "[]"


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [("langchain", "langchain_core", "langchain"), ("llama_index", "llama_index", "llama-index")],
)
def test_a_missing_extra_is_named_in_one_line(module: str, missing: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None  # what Python itself sets for a module that cannot be imported
try:
    import bge_rerank_integrations.{module}
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = run(code)
    assert said.startswith("MissingExtraError")
    assert f"pip install 'bge-rerank-integrations[{extra}]'" in said
    assert "\n" not in said


def test_each_family_is_imported_alone() -> None:
    """A family that cannot be imported must not stop another from loading."""
    folder = PACKAGE.parent / "tests" / "parity" / "checkpoints" / "encoder"
    code = f"""
import sys
for name in ("llm", "layerwise", "lightweight"):
    sys.modules["bge_rerank_integrations.families." + name] = None
from bge_rerank_integrations import load_scorer
with load_scorer({str(folder)!r}) as scorer:
    print(len(scorer.score("q", ["a"])))
"""
    assert run(code) == "1"
