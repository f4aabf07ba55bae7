"""Blocks are a function of the input alone, and have every row once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bge_rerank_integrations.dataset.plan import plan_blocks


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(1, 25))
def test_every_row_is_in_one_block_and_in_order(rows_of_files: list[int], block_rows: int) -> None:
    blocks = plan_blocks(rows_of_files, block_rows)
    planned = [(block.file, block.first + row) for block in blocks for row in range(block.rows)]
    assert planned == [(file, row) for file, rows in enumerate(rows_of_files) for row in range(rows)]
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert all(0 < block.rows <= block_rows for block in blocks)
    assert all(block.first == block.index * block_rows for block in blocks)


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(1, 25), st.integers(1, 60))
def test_a_further_file_leaves_the_blocks_before_it_as_they_are(rows: list[int], block_rows: int, more: int) -> None:
    assert plan_blocks([*rows, more], block_rows)[: len(plan_blocks(rows, block_rows))] == plan_blocks(rows, block_rows)
