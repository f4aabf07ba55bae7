"""From a name to a folder: local, one of this package's own, or the hub's."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from bge_rerank_integrations.catalog import MODELS
from bge_rerank_integrations.errors import CheckpointError, RerankError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.download import download
from bge_rerank_integrations.model.json_file import read_json
from bge_rerank_integrations.model.lora import Adapter, is_adapter, merged
from bge_rerank_integrations.model.tokenizer_files import TokenizerFiles
from bge_rerank_integrations.options import ModelSource

HUB_FILES = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "model*.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "*_LogitScore/config.json",
]
"""Whatever `model` reads, and nothing else: no pickles, no code."""
EMBEDDED = {"demo": "demo", "demo-layerwise": "decoder-tokenizer", "demo-lightweight": "decoder-tokenizer"}
"""The demonstration models that come with this package: their folders in demo/models, and those of their tokenizers."""


def find_checkpoint(source: ModelSource, above: tuple[Path, ...] = ()) -> Checkpoint:
    """The checkpoint that is asked for: in the folder given, this package's own, or from the hub or its cache.

    Args:
        above: the adapters that this model is the base of, each the base of the one before.
    """
    model = source.model
    if not isinstance(model, (str, os.PathLike)) or not str(model):
        raise TypeError(f"model={model!r}: give a hub id, a folder or one of {', '.join(EMBEDDED)}")
    if model in EMBEDDED:
        return _embedded(str(model))
    folder = _find_folder(source)
    return _find_adapted(source, folder, above) if is_adapter(folder) else Checkpoint(folder)


def _embedded(name: str) -> Checkpoint:
    models = Path(str(files("bge_rerank_integrations") / "demo" / "models"))
    folder, shared = models / name, models / EMBEDDED[name]
    if folder == shared:
        return Checkpoint(folder)
    tokenizer_files = TokenizerFiles(shared, read_json(folder / "config.json"))
    return Checkpoint(folder, tokenizer_files=tokenizer_files, folders=(folder, shared))


def _find_adapted(source: ModelSource, folder: Path, above: tuple[Path, ...]) -> Checkpoint:
    """An adapter's checkpoint: its base is found as any model is, and may be adapted itself."""
    if folder.resolve() in above:
        raise CheckpointError(f"{folder}: the adapter is its own base: name the model that it was trained on")
    adapter = Adapter(folder)
    wanted = replace(source, model=adapter.base, revision=adapter.base_revision)
    try:
        base = find_checkpoint(wanted, (*above, folder.resolve()))
    except RerankError as error:
        raise type(error)(
            f"{folder} is a LoRA adapter of {adapter.base!r} (base_model_name_or_path in its adapter_config.json), "
            f"which cannot be used: {error}"
        ) from error
    return merged(base, adapter)


def _find_folder(source: ModelSource) -> Path:
    """The folder asked for, fetched if it is the hub's."""
    model = source.model
    try:
        folder = Path(model).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{model} is not a folder here: there is no such user") from error
    if folder.is_dir():
        return folder
    name = str(model)
    if folder.exists():
        raise CheckpointError(f"{name} is a file: give a folder with config.json and model.safetensors")
    if isinstance(model, os.PathLike) or name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name:
        published = [known.name for known in MODELS if known.name.endswith(f"/{name}")]
        remedy = f"the published model is {published[0]!r}" if published else "check the path"
        raise CheckpointError(
            f"{name} is not a folder here, and not a hub id, which has the form 'owner/name': {remedy}"
        )
    return download(source, name, HUB_FILES)
