"""What a block holds does not depend on which other blocks are read, and a broken row breaks no other."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bge_rerank_integrations.dataset.json_lines import JsonLines
from bge_rerank_integrations.dataset.parquet import Parquet
from bge_rerank_integrations.dataset.plan import plan_blocks
from bge_rerank_integrations.dataset.rows import Columns, Row
from bge_rerank_integrations.dataset.source import find_common_shape, find_files
from bge_rerank_integrations.errors import DataError

LINE = st.sampled_from(['{"id": 1, "query": "q", "passage": "p\\u2028"}', "", "  \r", "{broken", "[]", '"\u2028"'])


def read(path: Path, block_rows: int, numbers: set[int]) -> dict[int, list[Row]]:
    form = find_files(path)[0].format
    shape = form.shape(path, Columns())
    assert shape is not None
    survey = form.survey(path, block_rows)
    wanted = [block for block in plan_blocks([survey.rows], block_rows) if block.number in numbers]
    return dict(zip([block.number for block in wanted], form.read(path, survey, wanted, shape), strict=True))


@settings(deadline=None)
@given(st.lists(LINE, max_size=30), st.integers(1, 7), st.sets(st.integers(0, 12)), st.sampled_from(["", "\ufeff"]))
def test_lines(lines: list[str], block_rows: int, numbers: set[int], mark: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        lines = ['{"id": 0, "query": "q", "passage": "p"}', *lines]
        path.write_bytes((mark + "\n".join(lines)).encode())
        everything = read(path, block_rows, set(range(100)))
        rows = [row for number in sorted(everything) for row in everything[number]]
        assert [row.place for row in rows] == [n for n, line in enumerate(lines, 1) if line.strip()]
        assert [bool(row.problem) for row in rows] == ["query" not in lines[row.place - 1] for row in rows]
        some = read(path, block_rows, numbers)
        assert some == {number: everything[number] for number in numbers & everything.keys()}


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.sets(st.integers(0, 40)))
def test_row_groups(count: int, group: int, block_rows: int, numbers: set[int]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        values = [{"id": n, "query": "q", "passages": [str(n)] * (n % 3)} for n in range(count)]
        schema = pa.schema({"id": pa.int32(), "query": pa.string(), "passages": pa.list_(pa.string())})
        pq.write_table(pa.Table.from_pylist(values, schema), path, row_group_size=group)
        everything = read(path, block_rows, set(range(100)))
        rows = [row for number in sorted(everything) for row in everything[number]]
        assert rows == [Row(n + 1, n, [("q", str(n))] * (n % 3)) for n in range(count)]
        assert read(path, block_rows, numbers) == {n: everything[n] for n in numbers & everything.keys()}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"query": "q", "passage": "p"}, "has no 'id': add it"),
        ({"id": None, "query": "q", "passage": "p"}, "has no 'id': add it"),
        ({"id": True, "query": "q", "passage": "p"}, "id=True: use a string or a whole number"),
        ({"id": 1.5, "query": "q", "passage": "p"}, "id=1.5: use a string or a whole number"),
        ({"id": "a", "query": 7, "passage": "p"}, "query=7: use a string"),
        ({"id": "a", "query": "q"}, "has no 'passage': add it"),
        ({"id": "a", "query": "q", "passage": ["p"]}, "passage=['p']: use a string"),
        ({"id": "a", "query": "q", "passage": "\ud800"}, "passage holds half a surrogate pair"),
    ],
)
def test_what_is_wrong_with_a_row(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 0, "query": "q", "passage": "p"}\n' + json.dumps(values) + "\n")
    ((good, bad),) = read(path, 10, {0}).values()
    assert not good.problem
    assert f"{path}, line 2" in bad.problem
    assert said in bad.problem


def test_text_that_is_not_utf_8_is_the_fault_of_its_row(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(b'{"id": 0, "query": "q", "passage": "p"}\n{"id": 1, "query": "\xff", "passage": "p"}\n')
    table = tmp_path / "rows.parquet"
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"q\xff"))
    pq.write_table(pa.table({"id": [0, 1], "query": broken, "passage": ["p", "p"]}), table)
    for path in (lines, table):
        ((good, bad),) = read(path, 10, {0}).values()
        assert good.pairs == [("q", "p")]
        assert bad.problem


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"query": "q", "passage": "p"}', "line 1 has no 'id': it has 'query', 'passage'"),
        ("a.jsonl", '{"id": 1, "query": "q"}', "none of ('passage', 'passages')"),
        ("a.jsonl", '{"id": 1, "query": "q", "passage": "", "passages": []}', "both of"),
        ("a.jsonl", "[1]", "line 1 holds [1]: an object is needed"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.jsonl", '{"id": 1, "query": "q"}'.encode("utf-16"), "looks like UTF-16"),
        ("a.parquet", "no parquet", "is not Parquet, or damaged"),
        ("a.csv", "id,query", "use one of .jsonl"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as refused:
        find_common_shape(find_files(path), Columns())
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("column", ["id", "query", "passage"])
def test_columns_of_another_type(tmp_path: Path, column: str) -> None:
    path = tmp_path / "rows.parquet"
    values: dict[str, list[Any]] = {"id": ["a"], "query": ["q"], "passage": ["p"]}
    pq.write_table(pa.table({**values, column: [1.5]}), path)
    with pytest.raises(DataError, match=f"column '{column}' is of type double"):
        Parquet().shape(path, Columns())


def test_files_that_differ(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "query": "q", "passage": "p"}')
    (tmp_path / "b.jsonl").write_text('{"id": 1, "query": "q", "passages": []}')
    (tmp_path / "_ignored").write_text("")
    with pytest.raises(DataError, match=r"b\.jsonl and .*a\.jsonl are built in different ways"):
        find_common_shape(find_files(tmp_path), Columns())


def test_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"number": 1, "q": "q", "texts": ["p"]}')
    shape = JsonLines().shape(path, Columns("number", "q", "texts"))
    assert shape is not None
    assert shape.several
