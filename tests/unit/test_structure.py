"""How the package hangs together: what is public, what imports what, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import bge_rerank_integrations
from bge_rerank_integrations.model.families import FAMILIES

PACKAGE = Path(bge_rerank_integrations.__file__).parent
FLOORS = (
    ("__main__",),
    ("cli*",),
    ("ray*",),
    ("bench*", "evaluation*", "demo*", "dataset*"),
    ("serve*",),
    ("langchain", "llama_index", "flag*"),
    ("rerank_fields",),
    ("adapter_fields", "reranking"),
    ("lazy",),
    ("loading",),
    ("fastest",),
    ("remote.scorer",),
    ("remote.recognise",),
    ("remote.transport", "remote.split", "remote.loop_thread"),
    ("remote.dialects",),
    ("scorer",),
    ("call",),
    ("model.replica",),
    ("model.memory",),
    tuple(where.partition(":")[0].partition(".")[2] for where in FAMILIES.values()),
    ("model.families.bases",),
    ("model.families.decoder_base",),
    ("model.families.asking",),
    ("model.families.base", "model.families.labels", "model.families.rotations", "model.joined_inputs"),
    ("model.hub", "model.weights", "model.inputs", "model.packing"),
    ("model.cutting", "model.lora", "model.ruler"),
    ("model.checkpoint", "model.cores", "model.devices", "model.download", "model.hub_reasons", "model.nn*"),
    ("model.tensor_files", "model.tokenizer_files"),
    ("model.chat_template", "model.recognise", "model.sentence_transformers", "model.tokenizer_conversion"),
    ("model.json_file", "model.tokenizer_errors"),
    ("model.families",),
    ("engine.deadline",),
    ("engine.engine",),
    ("engine.worker", "engine.hook"),
    ("engine.queue", "engine.cache"),
    ("engine.sharing",),
    ("engine.work",),
    ("protocol", "text_choice", "fusion"),
    ("ranking",),
    ("prompts", "options", "retrieval", "corpus", "catalog", "machine", "supported"),
    ("stats", "textfiles", "words", "other_names", "extras", "terminal", "blanks", "duplicates", "windows"),
    ("guess", "option_values"),
    ("errors", "once"),
    ("engine", "model", "remote", ""),
)
"""Every file's floor, top to bottom. A file may import what stands on a lower floor, and its own folder's files."""
NAME = "bge_rerank_integrations"


def module(path: Path) -> str:
    """A file's name as it is imported, without the package's own."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """The package's own modules that a file imports when it runs, in functions too."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == NAME:
            parent = node.module.removeprefix(NAME).lstrip(".")
            named = {f"{parent}.{alias.name}".lstrip(".") for alias in node.names}
            found |= named & MODULES.keys() or {parent}
    return found


def floor(name: str) -> int:
    return next(i for i, patterns in enumerate(FLOORS) if any(fnmatch(name, pattern) for pattern in patterns))


@pytest.mark.parametrize("name", [name for name in MODULES if name])  # the root imports only what is asked for
def test_imports_run_down(name: str) -> None:
    for other in imported(MODULES[name]):
        beside = name.split(".")[0] == other.split(".")[0] and "." in other + name
        assert floor(other) > floor(name) or (beside and floor(other) == floor(name)), f"{name} imports {other}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    left = {name: imported(path) - {""} for name, path in MODULES.items() if name}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


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
    ("module", "framework"),
    [
        ("langchain", "langchain_core.documents, langchain_core.cross_encoders, langchain_core.callbacks"),
        ("llama_index", "llama_index.core.schema, llama_index.core.postprocessor.types"),
    ],
)
def test_an_adapter_is_made_without_torch(module: str, framework: str) -> None:
    """Beyond what the framework imports itself, which today is none of these."""
    shown = 'print(sorted(m for m in ("torch", "transformers", "tokenizers", "safetensors") if m in sys.modules))'
    alone = run(f"import sys, {framework}; {shown}")
    code = f"""
import sys
from bge_rerank_integrations.{module} import BGERerank
BGERerank(model="demo", scale="sigmoid", family="llm")
"""
    assert run(code + shown) == alone


@pytest.mark.parametrize(
    "module",
    ["rerank_fields", "reranking", "catalog", "errors", "options", "prompts", "protocol", "engine.engine"],
)
def test_the_ground_floor_knows_no_torch(module: str) -> None:
    heavy = ("torch", "transformers", "tokenizers", "safetensors")
    assert run(f"import sys, {NAME}.{module}; print([m for m in {heavy} if m in sys.modules])") == "[]"


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
    assert said.endswith(f"pip install {missing.replace('_', '-')}{'-core' * (extra == 'llama-index')}")
    assert "\n" not in said


def test_each_family_is_imported_alone() -> None:
    """A family that cannot be imported must not stop another from loading."""
    folder = PACKAGE.parent / "tests" / "parity" / "checkpoints" / "encoder"
    code = f"""
import sys
for name in {[name for name in FAMILIES if name != "encoder"]}:
    sys.modules["bge_rerank_integrations.model.families." + name] = None
from bge_rerank_integrations import load_scorer
with load_scorer({str(folder)!r}) as scorer:
    print(len(scorer.score("q", ["a"])))
"""
    assert run(code) == "1"
