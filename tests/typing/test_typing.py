"""The public interface as type checkers see it: `right.py` passes, and each line of `wrong.py` would not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def mypy(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_type_checkers_know_the_options_of_adapters(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    done = mypy(HERE / "right.py", HERE / "wrong.py")
    assert done.returncode == 0, done.stdout + done.stderr
    bare = tmp_path / "bare.py"  # the same without the comments: every call of it is an error
    lines = (HERE / "wrong.py").read_text(encoding="utf-8").splitlines()
    bare.write_text("\n".join(line.partition("  # type: ignore")[0] for line in lines), encoding="utf-8")
    calls = sum("# type: ignore" in line for line in lines)
    assert f"Found {calls} errors in 1 file" in mypy(bare).stdout
