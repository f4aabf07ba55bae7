"""From a name to a folder: local, one of this package's own, or the hub's."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.download import download
from bge_rerank_integrations.options import ModelSource

HUB_FILES = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
]
EMBEDDED = {"demo": "demo", "demo-layerwise": "decoder-tokenizer", "demo-lightweight": "decoder-tokenizer"}
"""The demonstration models that come with this package: their folders in demo/models, and those of their tokenizers."""


def find_checkpoint(source: ModelSource) -> Checkpoint:
    """The checkpoint that is asked for: in the folder given, this package's own, or from the hub or its cache."""
    model = source.model
    if not isinstance(model, (str, os.PathLike)) or not str(model):
        raise TypeError(f"model={model!r}: give a hub id, a folder or one of {', '.join(EMBEDDED)}")
    if model in EMBEDDED:
        models = Path(str(files("bge_rerank_integrations") / "demo" / "models"))
        return Checkpoint(models / model, models / EMBEDDED[str(model)])
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Checkpoint(folder)
    name = str(model)
    if folder.exists():
        raise CheckpointError(f"{name} is a file: give the folder that holds it")
    if isinstance(model, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name:
        raise CheckpointError(
            f"{name} is not a folder here, and not a hub id, which has the form 'owner/name': check the path"
        )
    return Checkpoint(download(source, name, HUB_FILES))
