"""A checkpoint on disk: config.json, the tokenizer's files and safetensors, read and never executed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer
from torch import Tensor

from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.chat_template import ChatTemplate
from bge_rerank_integrations.model.json_file import read_json
from bge_rerank_integrations.model.recognise import describe_folder
from bge_rerank_integrations.model.sentence_transformers import SavedSettings, read_settings
from bge_rerank_integrations.model.tensor_files import Stored, TensorFiles, TensorSource
from bge_rerank_integrations.model.tokenizer_files import SPECIAL_TOKENS, TokenizerFiles
from bge_rerank_integrations.once import once

Config = TypeVar("Config", bound="CheckpointConfig")
Count = Annotated[int, Field(ge=1, le=4096)]
"""Layers, heads, groups: far more than any model has, and few enough to count up to."""
Size = Annotated[int, Field(ge=1, le=1 << 24)]
"""Widths, vocabularies and positions: the number of tensors' rows or columns."""
Positive = Annotated[float, Field(gt=0, le=1e12)]
Epsilon = Annotated[float, Field(gt=0, le=1)]


TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3_text", "minicpm")
"""Model types whose embeddings are also the language model's head unless config.json says otherwise."""
_READ = (".json", ".safetensors")


def ties_head(config: Mapping[str, Any]) -> bool:
    """Whether a language model's embeddings are also its head. Models with other heads have none to tie."""
    if "start_layer" in config or is_classifier(config):
        return False
    return bool(config.get("tie_word_embeddings", config.get("model_type") in TIED_BY_DEFAULT))


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether config.json names a class of transformers that gives labels to texts."""
    named = config.get("architectures")
    return isinstance(named, list) and any(str(name).endswith("ForSequenceClassification") for name in named)


class CheckpointConfig(BaseModel):
    """The keys of config.json that a family reads; subclasses name them, others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=(), strict=True, allow_inf_nan=False)


class Checkpoint:
    """One model's folder. Opening it reads the small files with settings; the rest is read when asked for.

    Args:
        config, weights, tokenizer_files: what is not in the folder itself, as with an adapter, whose model lies
            elsewhere; None: read from the folder.
        folders: every folder that something is read from.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        weights: TensorSource | None = None,
        tokenizer_files: TokenizerFiles | None = None,
        folders: tuple[Path, ...] = (),
    ) -> None:
        self.folder = folder = Path(os.path.abspath(folder))  # once: the process may change its directory
        if config is None and not (folder / "config.json").is_file():
            raise CheckpointError(describe_folder(folder))
        self.folders = folders or (folder,)
        self.config = read_json(folder / "config.json") if config is None else config
        self.settings: SavedSettings = read_settings(folder, self.config)
        self.weights = weights or TensorFiles(folder)
        self.tokenizer_files = tokenizer_files or TokenizerFiles(folder, self.config, lowercase=self.settings.lowercase)

    def file_states(self) -> dict[str, tuple[int, int, int]]:
        """What tells the files of config and weights apart from others of the same names."""
        paths = [
            path for folder in self.folders for path in folder.glob("*") if path.suffix in _READ and path.is_file()
        ]
        states = {str(path): path.stat() for path in paths}
        return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states.items()}

    def copy_to(self, folder: Path) -> None:
        """Write all of its files into one folder, for libraries that look for the tokenizer beside the weights."""
        for part in self.folders:
            shutil.copytree(part, folder, dirs_exist_ok=True)

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
        """config.json as `model`; an error names each key that is missing, of the wrong type or out of bounds."""
        try:
            return model.model_validate(self.config)
        except ValidationError as error:
            problems = "; ".join(
                ": ".join([".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")]).removeprefix(": ")
                for e in error.errors()
            )
            raise CheckpointError(
                f"{self.folder / 'config.json'} does not fit {self.architecture}: {problems}"
            ) from error

    @once
    def tokenizer(self) -> Tokenizer:
        """With truncation and padding off."""
        return self.tokenizer_files.tokenizer

    @once
    def chat_template(self) -> ChatTemplate | None:
        """The folder's chat template, unless sentence-transformers' files say that texts go in without it."""
        files, settings = self.tokenizer_files, self.settings
        if files.chat_template is None or not settings.uses_template:
            return None
        tokens = {name: files.special_token(name) for name in SPECIAL_TOKENS if name in files.settings}
        variables = {**{name: token for name, token in tokens.items() if token}, **settings.template_variables}
        return ChatTemplate(files.chat_template, f"{files.folder}'s chat template", settings.structured, variables)

    @property
    def tensors(self) -> Mapping[str, Stored]:
        """Shape and dtype of every tensor, by name; from the files' headers alone."""
        return self.weights.tensors

    def read_tensors(self, rows: Mapping[str, slice]) -> Iterator[tuple[str, Tensor]]:
        """See `TensorSource.read`."""
        return self.weights.read(rows)
