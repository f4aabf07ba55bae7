"""What is not installed is one line that says what to install."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import bge_rerank_integrations
from bge_rerank_integrations.extras import MODULES

PACKAGE = Path(bge_rerank_integrations.__file__).parent
MISSING = [(extra, module) for extra, modules in MODULES.items() for module in modules]
DOORS = {
    "cli": "from bge_rerank_integrations.__main__ import main; main()",
    "demo": "import bge_rerank_integrations.demo.show",
    "evaluate": "import bge_rerank_integrations.evaluation",
    "remote": "import bge_rerank_integrations.remote.transport",
    "dataset": "import bge_rerank_integrations.dataset",
    "ray": "from bge_rerank_integrations.extras import require; require('ray')",
    "serve": "import bge_rerank_integrations.serve",
}


def run(code: str, missing: str) -> subprocess.CompletedProcess[str]:
    """Run code where a module cannot be imported: None is what Python itself keeps for one."""
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['bge-rerank', 'models']\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("extra", "module"), MISSING)
def test_each_module_of_an_extra_is_checked_first(extra: str, module: str) -> None:
    done = run(DOORS[extra], module)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    package = MODULES[extra][module]
    assert f"{package}: not installed, and '{extra}' needs it. Run: pip install {shlex.quote(package)}" in last


@pytest.mark.parametrize("module", MODULES["cli"])
def test_the_command_line_says_it_in_one_line(module: str) -> None:
    done = run("import runpy; runpy.run_module('bge_rerank_integrations', run_name='__main__')", module)
    assert done.returncode == 1
    assert done.stdout == ""
    wanted = f"Error: {module}: not installed, and 'cli' needs it. Run: pip install {module}"
    assert done.stderr.splitlines() == [wanted]


def test_all_that_is_missing_is_named_at_once() -> None:
    done = run(f"sys.modules['bm25s'] = None\n{DOORS['demo']}", "Stemmer")
    assert done.stderr.splitlines()[-1].endswith(
        "bm25s, PyStemmer: not installed, and 'demo' needs them. Run: pip install bm25s PyStemmer"
    )


def test_what_is_advised_works_for_a_package_that_is_on_no_index() -> None:
    """An extra of this package can be had from an index alone, so no message names one."""
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert [path.name for path, text in texts.items() if re.search(r"pip install[^\n]*bge-rerank", text)] == []


@pytest.mark.parametrize("module", ["bm25s", "Stemmer"])
def test_retrieval_alone_says_it_too(module: str) -> None:
    done = run("import bge_rerank_integrations.retrieval", module)
    assert done.stderr.splitlines()[-1].endswith("pip install bm25s PyStemmer")


def test_scoring_and_the_adapters_need_no_command_line() -> None:
    code = """
for name in ("typer", "rich", "bm25s", "Stemmer", "matplotlib", "scipy"):
    sys.modules[name] = None
import bge_rerank_integrations.langchain, bge_rerank_integrations.llama_index
from bge_rerank_integrations import load_scorer
with load_scorer("demo") as scorer:
    print(len(scorer.score("q", ["a"])))
"""
    assert run(code, "typer").stdout.strip() == "1"
