"""The model families. A new one is a file here and a line in this table."""

from __future__ import annotations

from importlib import import_module

from bge_rerank_integrations.errors import OptionError, UnknownFamilyError
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families.base import Family

FAMILIES = {
    "encoder": "EncoderFamily",
    "llm": "LLMFamily",
    "layerwise": "LayerwiseFamily",
    "lightweight": "LightweightFamily",
}


def family_class(name: str) -> type[Family]:
    """The class of a family by its name; its file is imported only now, so that families cannot break each other."""
    if name not in FAMILIES:
        raise OptionError(f"family={name!r}: use one of {', '.join(FAMILIES)}, or None to read it from the checkpoint")
    found: type[Family] = getattr(import_module(f"{__name__}.{name}"), FAMILIES[name])
    return found


def find_family(checkpoint: Checkpoint) -> type[Family]:
    """The family whose config keys and tensors the checkpoint has; its name plays no part."""
    for name in FAMILIES:
        family = family_class(name)
        if family.claims(checkpoint):
            return family
    raise UnknownFamilyError(
        f"{checkpoint.folder}: {checkpoint.architecture} (model_type {checkpoint.model_type!r}) is not one of "
        f"{', '.join(FAMILIES)}; if it is a fine-tuned model of one of them, say which with family="
    )
