"""What sentence-transformers saves beside a cross-encoder, and what of it scores depend on.

It reads most of these files only in folders with a modules.json, as `sentence_transformers.base.model` of its release 6
does: what it would not read is not read here either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import CheckpointError, UnknownFamilyError
from bge_rerank_integrations.model.json_file import read_json, read_json_value

_ACTIVATIONS = ("Sigmoid", "Identity")
"""What the option `scale` can do after the forward pass: "sigmoid" and "logit"."""


@dataclass(frozen=True)
class LogitScore:
    """The module that makes a score of a language model's logits: one token's, less another's if there is one."""

    true_token: int
    false_token: int | None


@dataclass(frozen=True)
class SavedSettings:
    """What the files of one folder say."""

    lowercase: bool = False
    """Whether texts are put into lower case before they are tokenized."""
    query_prompt: str = ""
    """The text that is put before each query unless the caller says otherwise."""
    logit_score: LogitScore | None = None
    uses_template: bool = True
    """Whether texts go into the chat template if there is one."""
    structured: bool = False
    """Whether the template is given a message's content as a list of parts rather than a text."""
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    """What else the template is given."""


def read_settings(folder: Path, config: Mapping[str, Any]) -> SavedSettings:
    """Read the folder's settings.

    Raises:
        CheckpointError: they ask for something that changes scores and that cannot be done here, which it names.
    """
    section = config.get("sentence_transformers")
    saved = section.get("activation_fn") if isinstance(section, dict) else None
    _check_activation(folder / "config.json", saved or config.get("sbert_ce_default_activation_function"))
    if not (folder / "modules.json").is_file():
        return SavedSettings()
    logit_score = _check_modules(folder)
    settings = _optional(folder / "config_sentence_transformers.json")
    if settings.get("model_type") != "CrossEncoder":
        return SavedSettings(logit_score=logit_score)
    _check_activation(folder / "config_sentence_transformers.json", settings.get("activation_fn"))
    transformer = _optional(folder / "sentence_bert_config.json")
    modalities, processing = transformer.get("modality_config"), transformer.get("processing_kwargs")
    message = modalities.get("message") if isinstance(modalities, dict) else {}
    variables = processing.get("chat_template") if isinstance(processing, dict) else None
    return SavedSettings(
        lowercase=bool(transformer.get("do_lower_case", False)),
        query_prompt=_default_prompt(folder / "config_sentence_transformers.json", settings),
        logit_score=logit_score,
        uses_template=message is not None,
        structured=isinstance(message, dict) and message.get("format") == "structured",
        template_variables=variables if isinstance(variables, dict) else {},
    )


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _check_activation(path: Path, activation: object) -> None:
    if activation is not None and str(activation).rpartition(".")[2] not in _ACTIVATIONS:
        raise CheckpointError(
            f"{path}: activation_fn is {activation!r}, and only the logit and its sigmoid can be given here "
            f"({' and '.join(_ACTIVATIONS)}): remove the key to score with the logit"
        )


def _check_modules(folder: Path) -> LogitScore | None:
    """Refuse what is more than one model in this folder with a head of its own."""
    path = folder / "modules.json"
    modules = read_json_value(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} is not a list of modules")
    logit_score = None
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        place = str(module.get("path", ""))
        if kind == "Transformer" and place in ("", "."):
            continue
        if kind == "LogitScore" and logit_score is None:
            logit_score = _logit_score(folder / Path(place).name / "config.json")
            continue
        if kind in ("Pooling", "Normalize"):
            raise UnknownFamilyError(
                f"{path} has a module of the type {kind}: this is an embedding model of sentence-transformers, which "
                "cannot rerank: use a cross-encoder"
            )
        raise CheckpointError(
            f"{path} has a module of the type {kind or module!r} in {place or '.'!r}, which cannot be run here: "
            "only a Transformer in the folder itself, and a LogitScore after it, can"
        )
    return logit_score


def _logit_score(path: Path) -> LogitScore:
    content = read_json(path)
    true, false = content.get("true_token_id"), content.get("false_token_id")
    if not isinstance(true, int) or not isinstance(false, int | None):
        raise CheckpointError(f"{path}: true_token_id is {true!r} and false_token_id {false!r}: token ids are needed")
    return LogitScore(true, false)


def _default_prompt(path: Path, settings: Mapping[str, Any]) -> str:
    name = settings.get("default_prompt_name")
    prompts = settings.get("prompts") or {}
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if prompt is not None and not isinstance(prompt, str):
        raise CheckpointError(f"{path}: the prompt {name!r} is {prompt!r}, not a text")
    return prompt or ""
