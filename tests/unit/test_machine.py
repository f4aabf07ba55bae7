"""What figures are measured on, and the memory that they take."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bge_rerank_integrations import machine


def test_the_processor_has_a_name() -> None:
    assert machine.hardware().strip()


def test_versions_are_those_of_what_is_installed() -> None:
    found = machine.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert all(found.values())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_counts_what_was_in_use_at_most() -> None:
    try:
        memory = machine.Memory()
    except OSError:
        pytest.skip("this system does not let the peak start anew")
    much = b"x" * (256 << 20)
    del much
    extra = memory.extra()
    assert extra is not None
    assert extra > 200 << 20


def test_the_file_runs_by_its_path_without_this_package() -> None:
    """As the benchmark runs it, in environments that have another library alone."""
    code = f"import runpy; print(runpy.run_path({str(Path(machine.__file__))!r})['versions']()['python'])"
    isolated = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert isolated.stdout.strip() == platform.python_version()
