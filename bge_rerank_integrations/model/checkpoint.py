"""A checkpoint on disk: config.json, tokenizer.json and safetensors, read and never executed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor

from bge_rerank_integrations.errors import CheckpointError

Config = TypeVar("Config", bound="CheckpointConfig")


class CheckpointConfig(BaseModel):
    """The keys of config.json that a family reads; subclasses name them, others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Checkpoint:
    """One model's folder. Opening it reads config.json alone; the rest is read when asked for."""

    def __init__(self, folder: Path, tokenizer_folder: Path | None = None) -> None:
        """`tokenizer_folder`: where the tokenizer's files are; None: in the folder itself."""
        if not (folder / "config.json").is_file():
            if (folder / "adapter_config.json").is_file():
                raise CheckpointError(
                    f"{folder} holds a LoRA adapter, not a model: merge it into its base with peft "
                    "(PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(new_folder)) "
                    "and load the new folder"
                )
            raise CheckpointError(f"{folder} has no config.json: is it the folder of a model?")
        self.folder = Path(os.path.abspath(folder))  # once: the process may change its directory
        self.tokenizer_folder = tokenizer_folder or self.folder
        self.config = read_json(folder / "config.json")

    def file_states(self) -> dict[str, tuple[int, int, int]]:
        """What tells the files of weights and config.json apart from others of the same names; {} where one is gone."""
        try:
            states = {path.name: path.stat() for path in (self.folder / "config.json", *self.shards)}
        except OSError:
            return {}
        return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states.items()}

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.folder)!r})"

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def architecture(self) -> str:
        """The class that config.json names, or its model type."""
        named = self.config.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else self.model_type or "(none named)"

    def read_config(self, model: type[Config]) -> Config:
        """config.json as `model`; a key that is missing or of the wrong type is an error that names it."""
        try:
            return model.model_validate(self.config)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise CheckpointError(
                f"{self.folder / 'config.json'} does not fit {self.architecture}: {problems}"
            ) from error

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """tokenizer.json with truncation and padding off."""
        path = self.tokenizer_folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{self.tokenizer_folder} has no tokenizer.json: save one with "
                "transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        with tokenizer_errors(f"{path} is not a tokenizer"):
            tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def special_token_id(self, name: str) -> int | None:
        """The id of `bos_token`, `pad_token` and so on, as the tokenizer's files name it; None where they do not."""
        for file in ("tokenizer_config.json", "special_tokens_map.json"):
            path = self.tokenizer_folder / file
            if path.is_file():
                token = read_json(path).get(name)
                content = token.get("content") if isinstance(token, dict) else token
                if isinstance(content, str):
                    return self.tokenizer.token_to_id(content)
        return None

    def copy_to(self, folder: Path) -> None:
        """Write all of its files into one folder, for libraries that look for the tokenizer beside the weights."""
        for part in (self.folder, self.tokenizer_folder):
            shutil.copytree(part, folder, dirs_exist_ok=True)

    @cached_property
    def shards(self) -> tuple[Path, ...]:
        """The safetensors files that hold the weights."""
        single, index = self.folder / "model.safetensors", self.folder / "model.safetensors.index.json"
        if single.is_file():
            return (single,)
        if not index.is_file():
            pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in self.folder.glob(pattern))
            found = f"only {', '.join(pickles)}, which loading would execute" if pickles else "no weights"
            raise CheckpointError(
                f"{self.folder} has {found}: save model.safetensors with model.save_pretrained(folder) of transformers"
            )
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
            raise CheckpointError(f"{index} has no weight_map from tensors to files")
        files = [self.folder / Path(name).name for name in dict.fromkeys(weight_map.values())]
        if missing := [path.name for path in files if not path.is_file()]:
            raise CheckpointError(f"{self.folder} lacks {', '.join(missing)}, which {index.name} names")
        return tuple(files)

    @cached_property
    def tensors(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, by name; from the files' headers alone."""
        shapes = {}
        for shard in self.shards:
            with _opened(shard) as file:
                shapes.update({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
        return shapes

    def read_tensors(self, rows: Mapping[str, slice]) -> Iterator[tuple[str, Tensor]]:
        """Tensors one by one, shard by shard, so that no more than one is in memory.

        Args:
            rows: the names to read, each with the rows to read of it.
        """
        for shard in self.shards:
            with _opened(shard) as file:
                for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    if name in rows:
                        yield name, file.get_slice(name)[rows[name]]


@contextmanager
def tokenizer_errors(what: str) -> Iterator[None]:
    """Whatever tokenizers raises as a CheckpointError: bare Exceptions, and panics, which are not even those.

    Anything else comes from elsewhere, such as the handler of a signal that arrived meanwhile.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise CheckpointError(f"{what}: {error}") from error
        raise


class _opened:
    """A safetensors file; whatever is wrong with it becomes a CheckpointError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file = safe_open(str(self.path), framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(self._message(error)) from error
        return self.file.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.file.__exit__(kind, error, trace)
        if isinstance(error, SafetensorError):
            raise CheckpointError(self._message(error)) from error

    def _message(self, error: Exception) -> str:
        return f"{self.path} is broken or cut short ({error}): fetch or copy it again"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a CheckpointError that says what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__}, not a JSON object")
    return content
