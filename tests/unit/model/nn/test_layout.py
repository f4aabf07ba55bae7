"""Layouts: what is copied to a device in one transfer is what would be worked out there."""

from __future__ import annotations

import pytest
import torch

from bge_rerank_integrations.model.nn.layout import Layout, copy_at_once

CPU = torch.device("cpu")
LAYOUTS = [
    Layout((3,), CPU),
    Layout((1, 1), CPU),
    Layout((5, 2, 7), CPU),
    Layout((2, 3, 1, 4), CPU, prefixes=(3, 3, 2, 3)),
    Layout((1, 1, 1), CPU, prefixes=(2, 2, 2)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_placed_layout_has_every_tensor(layout: Layout) -> None:
    copies = iter(copy_at_once(layout.tensors(), CPU))
    placed = layout.placed(torch.device("meta"), copies)  # there, nothing that is worked out has values
    assert next(copies, None) is None
    assert placed.lengths == layout.lengths
    for there, here in ((placed, layout), (placed.context, layout.context), (placed.single, layout.single)):
        for name in ("cumulative", "sequence", "positions", "first", "last"):
            assert getattr(there, name).tolist() == getattr(here, name).tolist()
    if layout.prefixes is not None:
        assert placed.context_index.tolist() == layout.context_index.tolist()


def test_positions_count_on_after_a_prefix_and_own_ones_do_not() -> None:
    layout = Layout((2, 3, 4), CPU, prefixes=(2, 1, 2))
    assert layout.positions.tolist() == [4, 5, 0, 1, 2, 0, 1, 2, 3]
    assert layout.own_positions.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert layout.starts.tolist() == [0, 0, 2, 2, 2, 5, 5, 5, 5]


def test_one_transfer_keeps_dtypes_shapes_and_values() -> None:
    tensors = [torch.arange(3, dtype=torch.int32), torch.zeros(0, dtype=torch.int64), torch.ones(2, 2).double()]
    for copy, tensor in zip(copy_at_once(tensors, CPU), tensors, strict=True):
        assert copy.dtype == tensor.dtype
        assert torch.equal(copy, tensor)
