"""From a name to a folder: local, one of this package's own, or the hub's."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from bge_rerank_integrations.errors import CheckpointError, HubError
from bge_rerank_integrations.model.checkpoint import Checkpoint
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
    try:
        folder = Path(model).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{model} is not a folder here: there is no such user") from error
    if folder.is_dir():
        return Checkpoint(folder)
    name = str(model)
    if folder.exists():
        raise CheckpointError(f"{name} is a file: give the folder that holds it")
    if isinstance(model, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name:
        raise CheckpointError(
            f"{name} is not a folder here, and not a hub id, which has the form 'owner/name': check the path"
        )
    return Checkpoint(_from_hub(source, name))


def _from_hub(source: ModelSource, name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name,
            revision=source.revision,
            cache_dir=None if source.cache_dir is None else str(source.cache_dir),
            local_files_only=source.local_files_only,
            allow_patterns=HUB_FILES,
        )
    except HFValidationError as error:
        raise CheckpointError(f"{name} is not a folder here and not a hub id: {error}") from error
    except LocalEntryNotFoundError as error:
        reason = "local_files_only is set" if source.local_files_only else "the hub cannot be reached"
        raise HubError(
            f"{name} is not in the hub's cache ({source.cache_dir or 'the default one'}) and {reason}: connect, or "
            f"fetch it elsewhere with `hf download {name}` and give its folder or cache_dir"
        ) from error
    except HfHubHTTPError as error:
        raise HubError(
            f"the hub refused {name} at revision {source.revision or 'main'}: {error}. "
            "Check the name, the revision and your token"
        ) from error
    except OSError as error:
        raise HubError(
            f"{name} could not be fetched: {error}. Check the connection and the disk, then try again"
        ) from error
    return Path(folder)
