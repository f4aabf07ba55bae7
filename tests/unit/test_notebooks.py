"""What is committed of the notebooks: run from top to bottom, clean, and free of the machine they ran on."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = [pytest.param(json.loads(path.read_text("utf-8")), id=path.stem) for path in sorted(FOLDER.glob("*.ipynb"))]
EVERY = pytest.mark.parametrize("notebook", NOTEBOOKS)

MACHINE_PATH = re.compile(r"/(home|root|tmp|work|Users|var|opt)/|/usr/(lib|local)/|[A-Z]:\\\\|site-packages")


def shows(code: str) -> bool:
    """Whether a cell prints, or ends in a value to display: a name or the call of a function, not of a method."""
    body = ast.parse(re.sub(r"^[%!].*", "", code, flags=re.MULTILINE)).body
    run = [node for node in body if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    calls = [node for part in run for node in ast.walk(part) if isinstance(node, ast.Call)]
    if any(isinstance(call.func, ast.Name) and call.func.id in ("print", "display") for call in calls):
        return True
    last = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
    return isinstance(last.func if isinstance(last, ast.Call) else last, ast.Name)


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@EVERY
def test_it_was_run_once_from_top_to_bottom(notebook: dict[str, Any]) -> None:
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@EVERY
def test_every_cell_that_prints_has_its_output(notebook: dict[str, Any]) -> None:
    bare = [source(cell) for cell in code_cells(notebook) if shows(source(cell)) and not cell["outputs"]]
    assert not bare


@EVERY
def test_no_errors_and_nothing_on_standard_error(notebook: dict[str, Any]) -> None:
    litter = [o for o in outputs(notebook) if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not litter


@EVERY
def test_no_path_of_a_machine(notebook: dict[str, Any]) -> None:
    for output in outputs(notebook):
        texts = {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/")}
        assert not MACHINE_PATH.search(json.dumps([texts, output.get("text")]))


@EVERY
def test_metadata_is_plain(notebook: dict[str, Any]) -> None:
    """No times of execution, no widgets, and the kernel that every installation has."""
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(not set(cell["metadata"]) - {"tags"} for cell in notebook["cells"])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print(1)", True),
        ("for x in y:\n    print(x)", True),
        ("rows = f()\ntable(rows)", True),
        ("rows", True),
        ("%time\nawait f()\nprint(1)", True),
        ("scorer.close()", False),
        ("x = f()", False),
        ("def f():\n    print(1)", False),
        ("import a", False),
    ],
)
def test_which_cells_count_as_printing(code: str, expected: bool) -> None:
    assert shows(code) == expected
