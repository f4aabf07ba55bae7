"""A peer that needs other versions, run by another interpreter."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from bge_rerank_integrations.bench import peers
from bge_rerank_integrations.errors import OptionError


class NotInstalled(Exception):
    """A peer's packages are not there; the message has the command that installs them."""


class RemotePeer:
    """Loads and scores in a process of another virtual environment. Times are measured there."""

    def __init__(self, name: str, python: str, **load: Any) -> None:
        if not os.access(python, os.X_OK) or Path(python).is_dir():
            raise OptionError(f"{name}={python}: give the path of a Python interpreter that has {name}")
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [python, str(Path(peers.__file__)), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        try:
            if missing := self._ask({"missing": True})["missing"]:
                raise NotInstalled(f"not installed. Run: {shlex.join([python, '-m', 'pip', 'install', *missing])}")
            self._ask({"load": load})
        except BaseException:
            self.close()
            raise

    def timed(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """As `peers.timed`."""
        return self._ask({"timed": pairs})

    def weighed(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """As `peers.weighed`."""
        return self._ask({"weighed": pairs})

    def close(self) -> None:
        """End its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"its process ended: {self._log.read()[-500:].strip()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
