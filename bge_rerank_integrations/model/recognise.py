"""What a folder is that is not the folder of a model with safetensors, and what to do instead, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.model.json_file import read_json_value

_NO_MODELS = ("openvino", "training_args", "optimizer", "scheduler", "scaler", "rng_state")
"""How pickles begin that trainers and converters put beside a model."""


def describe_folder(folder: Path) -> str:
    """Why a folder without config.json is not that of a model."""
    for look in (_hub_cache, _trainer_output, _modular, _other_format, _dangling, _nested):
        if found := look(folder):
            return f"{folder} has no config.json: {found}"
    return f"{folder} has no config.json: is it the folder of a model?"


def describe_weights(folder: Path) -> str:
    """Why a folder with config.json has no weights to read."""
    for look in (_dangling, _named_otherwise, _pickles, _other_format, _trainer_output, _incomplete_snapshot):
        if found := look(folder):
            return f"{folder} has no model.safetensors: {found}"
    return (
        f"{folder} has no weights: save model.safetensors with model.save_pretrained(folder) of transformers, or copy "
        "it here"
    )


def _hub_cache(folder: Path) -> str | None:
    if re.fullmatch(r"models--.+", folder.name):
        name = folder.name.removeprefix("models--").replace("--", "/")
        kind = f"it is the hub's cache of {name}"
        snapshots = _folders_with(folder / "snapshots", "config.json")
        if snapshots:
            return f"{kind}: give {_current(folder, snapshots)}, or the name {name!r}"
        return f"{kind}, and its download is not complete: give the name {name!r} while the hub can be reached"
    if folder.name == "snapshots" and (snapshots := _folders_with(folder, "config.json")):
        return f"it holds a model's snapshots: give {_current(folder.parent, snapshots)}"
    if folder.parent.name == "snapshots":
        return _incomplete_snapshot(folder)
    if cached := sorted(path.name for path in _folders(folder) if path.name.startswith("models--")):
        names = [name.removeprefix("models--").replace("--", "/") for name in cached]
        return f"it is a cache of the hub: give cache_dir={str(folder)!r} and one of the names {_listed(names)}"
    return None


def _incomplete_snapshot(folder: Path) -> str | None:
    if folder.parent.name != "snapshots":
        return None
    name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return f"the download of {name} into the hub's cache is not complete: load it by its name while the hub answers"


def _trainer_output(folder: Path) -> str | None:
    """Trainers write a folder for every so many steps."""
    numbered = {
        int(match[1]): path
        for path in _folders(folder)
        if (match := re.fullmatch(r"checkpoint-(\d{1,18})", path.name))
        and any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
    }
    if not numbered:
        return None
    merged = folder / "merged_model"
    last = merged if (merged / "config.json").is_file() else numbered[max(numbered)]
    return f"it is the output of a training run: give a folder inside it, such as {last}"


def _modular(folder: Path) -> str | None:
    if not (folder / "modules.json").is_file():
        return None
    try:
        modules = read_json_value(folder / "modules.json")
        inner = folder / str(modules[0]["path"])
    except (CheckpointError, LookupError, TypeError):
        return "its modules.json is broken"
    if inner != folder and (inner / "config.json").is_file() and len(modules) == 1:
        return f"it is a modular sentence-transformers model: give {inner}"
    return (
        "it is a modular sentence-transformers model, of which only a cross-encoder in one folder can be run: save it "
        "again with CrossEncoder.save_pretrained of sentence-transformers"
    )


def _other_format(folder: Path) -> str | None:
    """Formats of other programs, of which config.json may be a part."""
    formats: Sequence[tuple[str, Callable[[], list[Path]]]] = (
        ("GGUF (llama.cpp)", lambda: [*folder.glob("*.gguf")]),
        ("ONNX", lambda: [*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")]),
        ("OpenVINO", lambda: [*folder.glob("openvino*.xml"), *folder.glob("openvino/*.xml")]),
        ("TensorFlow", lambda: [*folder.glob("tf_model.h5")]),
        ("Flax", lambda: [*folder.glob("flax_model.msgpack")]),
    )
    for name, find in formats:
        if files := find():
            shown = min(files).relative_to(folder)
            return (
                f"it holds {shown}, a model in the format of {name}, and only safetensors can be read: use the "
                "model that it was made from"
            )
    return None


def _named_otherwise(folder: Path) -> str | None:
    """Weights whose names are not those under which they are looked for."""
    found = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("adapter"))
    if not found:
        return None
    if any(re.search(r"-\d+-of-\d+\.safetensors$", name) for name in found):
        return (
            f"{_listed(found)} are parts of a model, and model.safetensors.index.json, which says what is in which, "
            "is missing: copy it here as well"
        )
    return f"if {_listed(found)} is the model, rename it to model.safetensors"


def _pickles(folder: Path) -> str | None:
    found = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    found = [name for name in found if not name.startswith(_NO_MODELS)]
    if not found:
        return None
    return (
        f"only {_listed(found)}, which loading would execute: save model.safetensors with "
        "model.save_pretrained(folder) of transformers"
    )


def _dangling(folder: Path) -> str | None:
    """Links into the hub's cache whose blob is missing, as in copies of a cache and in downloads cut off."""
    broken = sorted(path.name for path in folder.iterdir() if path.is_symlink() and not path.exists())
    if not broken:
        return None
    return f"{_listed(broken)} are links to files that are missing: download the model again, or copy it with its files"


def _nested(folder: Path) -> str | None:
    inside = _folders_with(folder, "config.json")
    return f"give the folder that has one, such as {inside[0]}" if inside else None


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _folders_with(folder: Path, name: str) -> list[Path]:
    return [path for path in _folders(folder) if (path / name).is_file()]


def _current(cache: Path, snapshots: Sequence[Path]) -> Path:
    """The snapshot of the branch "main", or else the newest."""
    main = cache / "refs" / "main"
    named = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    newest = max(snapshots, key=lambda path: path.stat().st_mtime)
    return next((path for path in snapshots if path.name == named), newest)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
