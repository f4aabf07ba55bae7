"""The tensors of a folder: safetensors files, one or several with an index, read and never executed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bge_rerank_integrations.errors import CheckpointError, WeightsError
from bge_rerank_integrations.model.json_file import damage, read_json
from bge_rerank_integrations.model.recognise import describe_weights
from bge_rerank_integrations.once import once

_BARE = re.compile(r"(roberta|bert|classifier|lm_head)\.|model\.(embed_tokens|layers|norm)\.")
"""How the names of tensors begin in the models that run here."""

_OLD_NORM = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")
_NORM = {"gamma": "weight", "beta": "bias"}
"""How models that were converted from TensorFlow name a norm's numbers, which transformers renames as well."""

FLOATS = ("F32", "F16", "BF16", "F64")
"""The types of numbers that weights may have, as safetensors names them."""


class Stored(NamedTuple):
    """What a file's header says about a tensor."""

    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: "F32", "BF16", "I8" and so on."""


class TensorSource(Protocol):
    """Where tensors come from."""

    @property
    def tensors(self) -> Mapping[str, Stored]:
        """Every tensor, by name."""

    def read(self, rows: Mapping[str, slice]) -> Iterator[tuple[str, Tensor]]:
        """Tensors one by one, so that no more than one is in memory.

        Args:
            rows: the names to read, each with the rows to read of it.
        """


class TensorFiles:
    """The tensors of one folder, by the names they have without a wrapper's prefix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @once
    def tensors(self) -> Mapping[str, Stored]:
        """Every tensor; from the files' headers alone."""
        return {self._bare(name): stored for shard in self._shards.values() for name, stored in shard.items()}

    def read(self, rows: Mapping[str, slice]) -> Iterator[tuple[str, Tensor]]:
        """See `TensorSource`."""
        for path, shard in self._shards.items():
            with opened(path) as file:
                for name in shard:
                    bare = self._bare(name)
                    if bare in rows:
                        yield bare, file.get_slice(name)[rows[bare]]

    @once
    def _shards(self) -> dict[Path, dict[str, Stored]]:
        """What to read from each file. Where a tensor lies in two, the index decides."""
        single = self.folder / "model.safetensors"
        if single.is_file():
            return {single: read_header(single)}
        index = self.folder / "model.safetensors.index.json"
        if not index.is_file():
            raise CheckpointError(describe_weights(self.folder))
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
            raise CheckpointError(f"{index} has no weight_map from tensors to files")
        files = {name: self.folder / Path(name).name for name in dict.fromkeys(weight_map.values())}
        if missing := [path.name for path in files.values() if not path.is_file()]:
            raise CheckpointError(
                f"{self.folder} lacks {', '.join(missing)}, which {index.name} names: fetch or copy the folder again"
            )
        shards = {}
        for file, path in files.items():
            header = read_header(path)
            absent = [name for name, named in weight_map.items() if named == file and name not in header]
            unnamed = [name for name in header if name not in weight_map]
            if absent or unnamed:
                raise WeightsError(
                    f"{path} and {index.name} are of different models: the file lacks {_some(absent)}, which the index "
                    f"says it holds, and has {_some(unnamed)} instead"
                )
            shards[path] = {name: stored for name, stored in header.items() if weight_map[name] == file}
        return shards

    @once
    def _wrapper(self) -> str:
        """The prefix that torch.compile, DistributedDataParallel or a trainer put before the model's names, or "".

        What else lies there, such as a loss, has no say in it.
        """
        prefixes = {_prefix(name) for shard in self._shards.values() for name in shard} - {None}
        return (prefixes.pop() or "") if len(prefixes) == 1 else ""

    def _bare(self, name: str) -> str:
        return _OLD_NORM.sub(lambda old: _NORM[old[1]], name.removeprefix(self._wrapper))


def _prefix(name: str) -> str | None:
    """What stands before the part of a name that the models here have; None: there is no such part."""
    starts = (match.start() for match in re.finditer(r"(?<![^.])", name))
    return next((name[:start] for start in starts if _BARE.match(name, start)), None)


def read_header(path: Path) -> dict[str, Stored]:
    """Shape and dtype of each tensor of a file."""
    header = {}
    with opened(path) as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            tensor = file.get_slice(name)
            header[name] = Stored(tuple(tensor.get_shape()), tensor.get_dtype())
    return header


class opened:
    """A safetensors file; whatever is wrong with it becomes a CheckpointError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file = safe_open(str(self.path), framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(damage(self.path, error)) from error
        return self.file.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.file.__exit__(kind, error, trace)
        if isinstance(error, SafetensorError):
            raise CheckpointError(damage(self.path, error)) from error


def _some(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0] if names else "nothing"
