"""The examples of README and docs run as written, and print what the page says they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("pip install", "bge-rerank bench", "jupyter nbconvert", "docker ", "serve BAAI/", "=BAAI/")
"""Shell blocks with one of these are not run here: CI runs what installs, a benchmark takes minutes,
and some need a model of the hub or a daemon."""


def examples(language: str) -> list[object]:
    """Each block of code, with the output that the `text` block right behind it shows, if there is one."""
    block = re.compile(rf"```{language}\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
    return [
        pytest.param(code, output, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (code, output) in enumerate(block.findall(page.read_text(encoding="utf-8")))
        if language == "python" or not any(words in code for words in ELSEWHERE)
    ]


def lines(output: str) -> list[str]:
    return [line.rstrip() for line in output.splitlines()]


PYTHON, SHELL = examples("python"), examples("bash")


def test_there_are_examples() -> None:
    assert len(PYTHON) >= 20
    assert len(SHELL) >= 2


@pytest.mark.parametrize(("code", "output"), PYTHON)
def test_an_example(
    code: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, "example", "exec"), {})
    printed = capsys.readouterr().out
    assert printed
    assert not output or lines(printed) == lines(output)


@pytest.mark.parametrize(("code", "output"), SHELL)
def test_a_command(code: str, output: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not output or lines(done.stdout) == lines(output)


def test_readme_puts_paris_first(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[:2]:
        exec(compile(code, "README.md", "exec"), {})
        assert "Paris" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.zh-CN.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target
