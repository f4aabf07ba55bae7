"""What is written down twice, because files cannot share it, is the same in both places."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations import __version__
from bge_rerank_integrations.extras import MODULES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = PROJECT["name"]
CHECKS = sorted(path for path in (ROOT / ".ci").iterdir() if not path.suffix)
WITH_URLS = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff")


def distribution(requirement: str) -> str:
    """The name in a requirement, as package indexes compare names."""
    return re.split(r"[\[<>=; ]", requirement)[0].lower().replace("_", "-")


def brought_by(extra: str) -> set[str]:
    """Everything an extra names, other extras of this project resolved."""
    found: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        if distribution(requirement) != NAME:
            if "python_version < '3.11'" not in requirement or sys.version_info < (3, 11):
                found.add(distribution(requirement))
            continue
        for other in re.findall(r"[\w-]+", requirement.removeprefix(NAME)):
            found |= brought_by(other)
    return found


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_brings_what_is_checked(extra: str) -> None:
    assert brought_by(extra) == {distribution(package) for package in MODULES[extra].values()}


def test_reranking_in_a_framework_brings_little_else() -> None:
    assert brought_by("langchain") == {"langchain-core"}
    assert brought_by("llama-index") == {"llama-index-core"}
    core = {distribution(requirement) for requirement in PROJECT["dependencies"]}
    assert core.isdisjoint({"typer", "rich", "bm25s", "pystemmer"})


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {distribution(line) for line in lines if not line.startswith("#")}
    extras = PROJECT["optional-dependencies"]
    wanted = {distribution(r) for group in (PROJECT["dependencies"], *extras.values()) for r in group}
    assert wanted - pinned == {NAME}


def test_the_version_is_the_same_everywhere() -> None:
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_repository_has_one_address() -> None:
    home = PROJECT["urls"]["Homepage"]
    files = [*(ROOT / name for name in WITH_URLS), *(ROOT / ".github").rglob("*.*")]
    for path in files:
        for url in re.findall(rf"https://github\.com/[\w.-]*/{NAME}", path.read_text(encoding="utf-8")):
            assert url == home, path


def test_the_table_of_options_is_up_to_date() -> None:
    spec = spec_from_file_location("options_table", ROOT / "docs" / "options_table.py")
    assert spec is not None
    assert spec.loader is not None
    table = module_from_spec(spec)
    spec.loader.exec_module(table)
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.with_table(page) == page, "run `python docs/options_table.py`"
    with pytest.raises(ValueError, match="no table to replace"):
        table.with_table("a page without one")


@pytest.mark.parametrize("check", CHECKS, ids=lambda path: path.name)
def test_a_check_can_be_run_and_is_described(check: Path) -> None:
    assert os.access(check, os.X_OK)
    assert f"`.ci/{check.name}" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_workflow_runs_the_checks_that_the_one_command_runs() -> None:
    (checks,) = re.findall(r"^for check in (.*); do$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (matrix,) = re.findall(r"check: \[(.*)\]", workflow)
    assert checks.split() == ["test", *matrix.split(", ")]
    assert "run: .ci/test\n" in workflow
