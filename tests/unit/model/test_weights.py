"""Strict loading: each tensor goes where it belongs, and whatever does not fit is an error that names it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bge_rerank_integrations.errors import ClosedError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.weights import Target, check_weights, load_weights

STORED = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.tensor([1.0, 2.0, 3.0])}


def write(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    (folder / "config.json").write_text(json.dumps({"architectures": ["SomeModel"]}))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def load(folder: Path, targets: Mapping[str, Target], ignored: Iterable[str] = (), *, abandoned: bool = False) -> None:
    event = Event()
    if abandoned:
        event.set()
    checkpoint = Checkpoint(folder)
    check_weights(checkpoint, targets, tuple(ignored))
    load_weights(checkpoint, targets, event)


def empty(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("_", "."): torch.full(shape, float("nan")) for name, shape in shapes.items()}


@pytest.fixture
def parameters() -> dict[str, Tensor]:
    return empty(a_weight=(3, 4), a_bias=(3,))


def whole(parameters: Mapping[str, Tensor]) -> dict[str, Target]:
    return {name: Target.whole(parameter) for name, parameter in parameters.items()}


def test_every_tensor_goes_to_its_destination(tmp_path: Path, parameters: dict[str, Tensor]) -> None:
    load(write(tmp_path, STORED), whole(parameters))
    for name, tensor in STORED.items():
        assert torch.equal(parameters[name], tensor)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_numbers_take_the_type_of_their_destination(tmp_path: Path, stored: torch.dtype, wanted: torch.dtype) -> None:
    parameter = torch.zeros(3, dtype=wanted)
    load(write(tmp_path, {"a.bias": STORED["a.bias"].to(stored)}), {"a.bias": Target.whole(parameter)})
    assert parameter.dtype == wanted
    assert parameter.tolist() == [1.0, 2.0, 3.0]


def test_parts_of_one_parameter_come_from_several_tensors(tmp_path: Path) -> None:
    joined = torch.zeros(4, 2)
    key, value = joined.chunk(2)
    stored = {"key": torch.ones(2, 2), "value": torch.full((2, 2), 2.0)}
    load(write(tmp_path, stored), whole({"key": key, "value": value}))
    assert joined.tolist() == [[1, 1], [1, 1], [2, 2], [2, 2]]


def test_one_row_is_picked_where_only_one_is_needed(tmp_path: Path) -> None:
    row = torch.zeros(1, 4)
    load(write(tmp_path, STORED), {"a.weight": Target(row, (3, 4), row=2)}, ["a.bias"])
    assert row.tolist() == [[8.0, 9.0, 10.0, 11.0]]


def test_a_row_is_picked_before_anything_is_looked_at(tmp_path: Path) -> None:
    """Rows that nobody reads may hold anything."""
    spoiled = STORED["a.weight"].clone()
    spoiled[0] = float("nan")
    row = torch.zeros(1, 4)
    load(write(tmp_path, {"a.weight": spoiled}), {"a.weight": Target(row, (3, 4), row=1)})
    assert row.tolist() == [[4.0, 5.0, 6.0, 7.0]]


def test_a_tensor_without_a_destination_is_not_read_but_its_shape_counts(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a.weight": torch.full((3, 4), float("nan"))})
    load(folder, {"a.weight": Target(None, (3, 4))})
    with pytest.raises(WeightsError, match=r"a\.weight has shape \(3, 4\), but config\.json makes it \(4, 4\)"):
        load(folder, {"a.weight": Target(None, (4, 4))})


def test_missing_tensors_are_named_with_what_is_there_instead(tmp_path: Path, parameters: dict[str, Tensor]) -> None:
    folder = write(tmp_path, {"a.weight": STORED["a.weight"], "b.bias": STORED["a.bias"]})
    with pytest.raises(WeightsError, match=r"lacks a\.bias; it has b\.bias instead"):
        load(folder, whole(parameters))
    with pytest.raises(WeightsError, match=r"lacks a\.bias$"):
        load(folder, whole(parameters), [r"b\..*"])


def test_of_many_missing_tensors_a_few_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    parameters = {f"layer.{i}": torch.zeros(1) for i in range(8)}
    with pytest.raises(WeightsError, match=r"lacks layer\.0, .*layer\.4 and 3 more"):
        load(write(tmp_path, {"layer.9": torch.zeros(1)}), whole(parameters))


def test_unexpected_tensors_are_named_with_the_architecture(tmp_path: Path, parameters: dict[str, Tensor]) -> None:
    folder = write(tmp_path, STORED | {"extra.bias": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"has extra\.bias, which SomeModel does not have"):
        load(folder, whole(parameters))
    assert all(parameter.isnan().all() for parameter in parameters.values())  # nothing was loaded


def test_ignored_names_are_whole_names(tmp_path: Path, parameters: dict[str, Tensor]) -> None:
    folder = write(tmp_path, STORED | {"extra.bias": torch.zeros(2), "more.extra.bias": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"has more\.extra\.bias"):
        load(folder, whole(parameters), [r"extra\.bias", "unknown"])
    load(folder, whole(parameters), [r"extra\.bias", r"more\..*"])


def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path) -> None:
    parameters = empty(a_weight=(4, 3), a_bias=(3,))
    with pytest.raises(WeightsError, match=r"a\.weight has shape \(3, 4\), but config\.json makes it \(4, 3\)"):
        load(write(tmp_path, STORED), whole(parameters))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, parameters: dict[str, Tensor], value: float) -> None:
    spoiled = STORED["a.weight"].clone()
    spoiled[2, 3] = value
    with pytest.raises(WeightsError, match=r"a\.weight holds NaN or infinity in float32"):
        load(write(tmp_path, STORED | {"a.weight": spoiled}), whole(parameters))


def test_values_too_large_for_the_type_asked_for_are_named_with_it(tmp_path: Path) -> None:
    parameter = torch.zeros(3, dtype=torch.float16)
    folder = write(tmp_path, {"a.bias": torch.full((3,), 1e6)})
    with pytest.raises(WeightsError, match=r"in float16 .* try dtype='float32'"):
        load(folder, {"a.bias": Target.whole(parameter)})


def test_nothing_is_read_once_nobody_waits_any_more(tmp_path: Path, parameters: dict[str, Tensor]) -> None:
    with pytest.raises(ClosedError, match="was interrupted"):
        load(write(tmp_path, STORED), whole(parameters), abandoned=True)
    assert all(parameter.isnan().all() for parameter in parameters.values())
