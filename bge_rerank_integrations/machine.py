"""The machine of a measurement: its processor, what is installed, and the memory that a call takes.

This file needs the standard library only, because the benchmark runs it in other environments too.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def hardware() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that figures depend on."""
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "sentence-transformers", "onnxruntime", "openvino", "FlagEmbedding"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Memory:
    """Peak memory since this object was made: of the GPU if torch uses one, otherwise of this process (Linux)."""

    def __init__(self) -> None:
        torch = sys.modules.get("torch")
        self.cuda: Any = torch.cuda if torch and torch.cuda.is_available() and torch.cuda.is_initialized() else None
        if self.cuda:
            self.cuda.synchronize()
            self.cuda.reset_peak_memory_stats()
            self.before = self.cuda.memory_allocated()
        elif sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # reset the peak
            self.before = self._status("VmRSS")

    def extra(self) -> int | None:
        """The peak minus the bytes in use at the start; None if the system does not tell."""
        if self.cuda:
            self.cuda.synchronize()
            return int(self.cuda.max_memory_allocated() - self.before)
        return self._status("VmHWM") - self.before if sys.platform == "linux" else None

    def _status(self, key: str) -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
