"""Objects in place of the model and the tokenizer of transformers that FlagEmbedding has."""

from __future__ import annotations

from typing import Any, NoReturn

from bge_rerank_integrations.loading import Resolved
from bge_rerank_integrations.model.tokenizer_files import SPECIAL_TOKENS


class ModelConfig:
    """The one value of a config that evaluation scripts read and set: the name under which they store results."""

    def __init__(self, name: str) -> None:
        self._name_or_path = name

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"model.config has no {name!r}, only _name_or_path: there is no model of transformers here; read "
            "config.json in the checkpoint's folder"
        )


class Model:
    """Has `config._name_or_path`. For everything else, an error says what to use."""

    def __init__(self, name: str) -> None:
        self.config = ModelConfig(name)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"model has no {name!r}: there is no model of transformers here, and none to move, halve or put in eval "
            "mode. Use target_devices and use_fp16 for where and how it runs, compute_score for scores, "
            "stop_self_pool to free it"
        )


def tokenizer(found: Resolved) -> Any:
    """The checkpoint's tokenizer as transformers has it, with the token ids that are scored here."""
    from transformers import PreTrainedTokenizerFast  # nothing else here needs transformers

    checkpoint = found.checkpoint
    named = {name: checkpoint.tokenizer_files.special_token(name) for name in SPECIAL_TOKENS}
    return PreTrainedTokenizerFast(
        tokenizer_object=checkpoint.tokenizer,
        model_max_length=found.family.longest,
        **{name: token for name, token in named.items() if token is not None},
    )
