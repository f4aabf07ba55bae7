"""LoRA adapters: a base model's checkpoint with the adapter merged into it, tensor by tensor as it is read.

peft merges into a loaded model of transformers, and two of the families have no class there that could be loaded
without remote code. So the sum is worked out here, which also never has the model twice in memory: W + scale * (B @ A)
for each adapted matrix, and the saved tensor itself for what was trained whole (heads, embeddings, biases). What an
adapter's settings ask for beyond that is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bge_rerank_integrations.errors import CheckpointError, WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint, ties_head
from bge_rerank_integrations.model.json_file import read_json
from bge_rerank_integrations.model.tensor_files import FLOATS, Stored, TensorSource, opened, read_header
from bge_rerank_integrations.model.tokenizer_files import TokenizerFiles
from bge_rerank_integrations.once import once

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
_KNOWN = frozenset(
    {
        # read here
        "peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "use_rslora", "rank_pattern",
        "alpha_pattern", "fan_in_fan_out", "init_lora_weights",
        # which tensors were adapted: the file of tensors says so itself
        "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "bias",
        # without effect once it is trained
        "task_type", "inference_mode", "lora_dropout", "auto_mapping", "peft_version", "loftq_config", "eva_config",
        "megatron_core", "runtime_config", "qalora_group_size", "ensure_weight_tying",
    }
)  # fmt: skip
"""The keys of adapter_config.json that may have any value; others must be off (null, false or empty)."""
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq")
"""Ways to start training that take something away from the base model's own weights."""
_PREFIX = re.compile(r"^base_model\.model\.")
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(\.default)?(\.weight)?")


class Factors(NamedTuple):
    """Where the two factors of one tensor's change are in the adapter's file."""

    a: str
    b: str
    scale: float
    transposed: bool
    """Whether the change is (B @ A) transposed, as embeddings have it."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    if not (folder / CONFIG).is_file():
        return False
    models = [path.name for path in folder.glob("model*.safetensors")]
    if models and (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{folder} holds both a model ({models[0]}) and a LoRA adapter ({WEIGHTS}), and whether the adapter is "
            f"already merged is not said: remove {CONFIG} to use the model as it is, or move the adapter's files to a "
            "folder of their own"
        )
    return not models


class Adapter:
    """One adapter's folder; its settings are read and checked at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_json(folder / CONFIG)
        self._check_config()

    @property
    def base(self) -> str:
        """The model that the adapter was trained on: a hub id or a folder."""
        return str(self.config["base_model_name_or_path"])

    @property
    def base_revision(self) -> str | None:
        revision = self.config.get("revision")
        return None if revision is None else str(revision)

    @once
    def tensors(self) -> dict[str, Stored]:
        """Shape and dtype of every tensor, by its name in the file."""
        path = self.folder / WEIGHTS
        if not path.is_file():
            pickled = (self.folder / "adapter_model.bin").is_file()
            raise CheckpointError(
                f"{self.folder} lacks {WEIGHTS}"
                + ("; adapter_model.bin would be executed when loaded" if pickled else "")
                + ": save it with model.save_pretrained(folder) of peft"
            )
        return read_header(path)

    @once
    def factors(self) -> dict[str, Factors]:
        """The changes, by the names of the base model's tensors."""
        pairs: dict[str, dict[str, str]] = {}
        for name in self.tensors:
            if match := _FACTOR.fullmatch(_bare(name)):
                pairs.setdefault(match["module"], {})[match["factor"]] = name
                pairs[match["module"]]["embedding"] = match["embedding"] or ""
        return {f"{module}.weight": self._factors(module, pair) for module, pair in pairs.items()}

    @once
    def replaced(self) -> dict[str, str]:
        """The tensors that were saved whole: from the base model's names to those in the file."""
        whole = {
            _bare(name): name for name in self.tensors if ".lora_" not in name and ".original_module." not in name
        }  # peft saves biases also of the modules that its copies stand in for
        if unknown := [n for n in self.tensors if ".lora_" in n and not _FACTOR.fullmatch(_bare(n))]:
            raise WeightsError(f"{self.folder / WEIGHTS} has {unknown[0]}, which plain LoRA does not have")
        return whole

    def read(self, name: str, rows: slice = slice(None)) -> Tensor:
        """Rows of a tensor, by its name in the file."""
        with opened(self.folder / WEIGHTS) as file:
            tensor: Tensor = file.get_slice(name)[rows]
        return tensor

    def change(self, factors: Factors, rows: slice) -> Tensor:
        """What is added to rows of a tensor, in float32."""
        if factors.transposed:
            a, b = self.read(factors.a), self.read(factors.b)
            return (b.float() @ a.float()).T[rows] * factors.scale
        return (self.read(factors.b, rows).float() @ self.read(factors.a).float()) * factors.scale

    def _factors(self, module: str, pair: Mapping[str, str]) -> Factors:
        if "A" not in pair or "B" not in pair:
            raise WeightsError(f"{self.folder / WEIGHTS} has only one of the two factors of {module}")
        (a, *types), (b, *more) = self.tensors[pair["A"]], self.tensors[pair["B"]]
        if other := {*types, *more} - {*FLOATS}:
            raise WeightsError(
                f"{self.folder / WEIGHTS}: the factors of {module} hold numbers of the type {min(other)}"
            )
        rank = self._by_pattern("rank_pattern", module, self.config.get("r"))
        alpha = self._by_pattern("alpha_pattern", module, self.config.get("lora_alpha"))
        if not isinstance(rank, int) or not 1 <= rank <= 1 << 20:
            raise CheckpointError(f"{self.folder / CONFIG}: the rank of {module} is {rank!r}, not a whole number")
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise CheckpointError(f"{self.folder / CONFIG}: lora_alpha of {module} is {alpha!r}, not a number")
        if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
            raise WeightsError(
                f"{self.folder}: the factors of {module} have shapes {a} and {b}, not those of the rank {rank} that "
                f"{CONFIG} names"
            )
        scale = alpha / (rank**0.5 if self.config.get("use_rslora") else rank)
        return Factors(pair["A"], pair["B"], scale, bool(pair["embedding"]) or bool(self.config.get("fan_in_fan_out")))

    def _by_pattern(self, key: str, module: str, default: Any) -> Any:
        """A number that may be another for some modules, which peft names by the ends of their names."""
        patterns = self.config.get(key) or {}
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            if len(pattern) > 200 or re.search(r"[*+{]", pattern.replace(".*", "")):
                raise CheckpointError(f"{self.folder / CONFIG}: {key} has {pattern!r}, too intricate a pattern")
            try:
                if re.match(rf"(.*\.)?({pattern})$", module):
                    return value
            except re.error as error:
                raise CheckpointError(f"{self.folder / CONFIG}: {key} has {pattern!r}, no pattern: {error}") from error
        return default

    def _check_config(self) -> None:
        path, config = self.folder / CONFIG, self.config
        if config.get("peft_type") != "LORA":
            raise CheckpointError(f"{path}: peft_type is {config.get('peft_type')!r}, and only LORA can be merged here")
        base = config.get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise CheckpointError(
                f"{path} names no base_model_name_or_path: write there the hub id or the folder of the model that the "
                "adapter was trained on"
            )
        started = config.get("init_lora_weights")
        on = [key for key, value in config.items() if key not in _KNOWN and value]
        if isinstance(started, str) and started.lower().startswith(_CHANGES_BASE):
            on.append("init_lora_weights")
        if on:
            raise CheckpointError(
                f"{path}: {on[0]} is {config[on[0]]!r}, which merging here does not know: merge it with peft "
                "(PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(new_folder)) and load "
                "the new folder"
            )


class MergedTensors:
    """A base model's tensors with an adapter's changes: a `TensorSource`."""

    def __init__(self, base: TensorSource, adapter: Adapter) -> None:
        self.base = base
        self.adapter = adapter

    @once
    def tensors(self) -> Mapping[str, Stored]:
        adapter, stored = self.adapter, dict(self.base.tensors)
        for name, factors in adapter.factors.items():
            rows, columns = adapter.tensors[factors.b].shape[0], adapter.tensors[factors.a].shape[1]
            shape = (columns, rows) if factors.transposed else (rows, columns)
            if name == HEAD and EMBEDDINGS in stored and not any(other.startswith("lm_head.") for other in stored):
                raise WeightsError(
                    f"{adapter.folder} adapts {HEAD}, which in its base {adapter.base} is the same tensor as the "
                    "embeddings: whether they change with it is not said; merge it with peft"
                )
            if name not in stored:
                raise WeightsError(f"{adapter.folder} adapts {name}, which its base {adapter.base} does not have")
            if stored[name].shape != shape:
                raise WeightsError(
                    f"{adapter.folder} adapts {name} as one of shape {shape}, but in its base {adapter.base} it has "
                    f"{stored[name].shape}"
                )
        for name, own in adapter.replaced.items():
            if name not in stored and name != HEAD:  # a tied head is in no file until it is trained by itself
                raise WeightsError(f"{adapter.folder} has {name}, which its base {adapter.base} does not have")
            stored[name] = adapter.tensors[own]
        return stored

    def read(self, rows: Mapping[str, slice]) -> Iterator[tuple[str, Tensor]]:
        """See `TensorSource`."""
        adapter = self.adapter
        of_base = {name: wanted for name, wanted in rows.items() if name not in adapter.replaced}
        for name, tensor in self.base.read(of_base):
            yield name, self._changed(name, tensor, rows[name])
        for name, own in adapter.replaced.items():
            if name in rows:
                yield name, self._changed(name, adapter.read(own, rows[name]), rows[name])

    def _changed(self, name: str, tensor: Tensor, rows: slice) -> Tensor:
        factors = self.adapter.factors.get(name)
        with torch.inference_mode():
            return tensor if factors is None else tensor.float() + self.adapter.change(factors, rows)


def merged(base: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The checkpoint that merging an adapter into its base gives.

    The tokenizer is the adapter's where its folder has one, as training saves it there, and else the base's.
    """
    weights = MergedTensors(base.weights, adapter)
    config = dict(base.config)
    own_head = HEAD in adapter.replaced
    if ties_head(config):
        # peft saves the base's embeddings beside the factors of their change; merging changes the head with them
        if EMBEDDINGS in adapter.replaced and EMBEDDINGS not in adapter.factors and not own_head:
            raise WeightsError(
                f"{adapter.folder} was trained with embeddings of its own, but without the head, which in its base "
                f"{adapter.base} is the same tensor: which of the two scores is not said; merge it with peft"
            )
        config["tie_word_embeddings"] = not own_head
    own = TokenizerFiles(adapter.folder, config, lowercase=base.settings.lowercase)
    has_tokenizer = (adapter.folder / "tokenizer.json").is_file()
    return Checkpoint(
        adapter.folder,
        config=config,
        weights=weights,
        tokenizer_files=own if has_tokenizer else base.tokenizer_files,
        folders=(adapter.folder, *base.folders),
    )


def _bare(name: str) -> str:
    """A tensor's name without what peft puts into it."""
    return _WRAPPED.sub("", _PREFIX.sub("", name))
