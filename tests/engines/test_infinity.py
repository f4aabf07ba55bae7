"""Infinity as it is installed, in a process of its own: left out unless INFINITY_PYTHON names a Python that has it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bge_rerank_integrations import demo, load_scorer
from bge_rerank_integrations.errors import RemoteError
from bge_rerank_integrations.options import Scale
from tests.engines.compare import QUERY, TEXTS, largest_difference

PYTHON = os.environ.get("INFINITY_PYTHON")
MODEL = Path(demo.__file__).parent / "models" / "demo"
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "OMP_NUM_THREADS": "1"}
WORDS = (
    "v2", "--served-model-name", "demo", "--engine", "torch", "--device", "cpu", "--dtype", "float32",
    "--host", "127.0.0.1", "--no-bettertransformer", "--no-compile", "--no-model-warmup",
)  # fmt: skip
LONG = 300.0
"""Seconds after which it is ended, whatever it does."""

pytestmark = pytest.mark.skipif(PYTHON is None, reason="INFINITY_PYTHON is not set: .ci/engines installs Infinity")


@contextmanager
def started(python: str) -> Iterator[str]:
    """The address of an engine that is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(Path(python).parent / "infinity_emb"), *WORDS, "--model-id", str(MODEL), "--port", str(port)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | OFFLINE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    end = threading.Timer(LONG, process.kill)
    end.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:  # it says this when the model is loaded and the port open
            said.append(line)
            if "Uvicorn running on" in line:
                break
        else:
            pytest.fail(f"it did not start: {''.join(said)}")
        yield f"http://127.0.0.1:{port}"
    finally:
        end.cancel()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    assert PYTHON is not None
    with started(PYTHON) as address:
        yield address


@pytest.mark.parametrize("scale", ["logit", "sigmoid"])
def test_scores_are_those_in_process(url: str, scale: Scale) -> None:
    assert largest_difference(url, "infinity", scale) <= 1e-5


def test_ranks_as_in_process(url: str) -> None:
    with load_scorer("demo") as ours, load_scorer(url, dialect="infinity", served_model="demo") as remote:
        expected = [one.index for one in ours.rank(QUERY, TEXTS, top_n=10)]
        assert [one.index for one in remote.rank(QUERY, TEXTS, top_n=10)] == expected


def test_a_wrong_dialect_names_the_right_one(url: str) -> None:
    with load_scorer(url, dialect="tei") as remote, pytest.raises(RemoteError, match="looks like dialect infinity"):
        remote.score(QUERY, TEXTS)


def test_another_model_than_the_one_asked_for_is_an_error(url: str) -> None:
    with (
        load_scorer(url, dialect="infinity", served_model="another") as remote,
        pytest.raises(RemoteError, match="scored with model 'demo', not 'another'"),
    ):
        remote.score(QUERY, TEXTS)
