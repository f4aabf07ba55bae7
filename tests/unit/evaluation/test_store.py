"""Scores on disk: what a kill leaves, other data, other settings, the files of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation.store import Store


def test_the_store_survives_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    store = Store(path, "data")
    store.open_configuration("a", {"max_length": 5})
    store.add([("a", "q1", [0.1, 1 / 3])])
    store.close()
    whole = path.read_bytes()
    for cut in (1, 20):
        path.write_bytes(whole + b'{"configuration": "a", "query": "q2", "scores": [1, 2]}'[:-cut])
        again = Store(path, "data")
        assert {query: list(scores) for query, scores in again.scores("a").items()} == {"q1": [0.1, 1 / 3]}
        again.close()
    with pytest.raises(DataError, match="other queries"):
        Store(path, "other data")
    again = Store(path, "data")
    with pytest.raises(DataError, match=r"max_length \(was 5, is 6\)"):
        again.open_configuration("a", {"max_length": 6})
    again.close()
    path.write_bytes(whole + b"garbage\n")
    with pytest.raises(DataError, match="line 4 is damaged"):
        Store(path, "data")
    path.write_bytes(whole + b"\xff\n")
    with pytest.raises(DataError, match="line 4 is damaged"):
        Store(path, "data")


@pytest.mark.parametrize("content", [b'{"player": "a"}\n{"player": "b"}', b"a note to myself"])
def test_the_store_leaves_the_files_of_others_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"scores\.jsonl was not written by this command"):
        Store(path, "data")
    assert path.read_bytes() == content
