"""The model families. A new one is a file here and a line in this table."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from bge_rerank_integrations.errors import OptionError, UnknownFamilyError

if TYPE_CHECKING:
    from bge_rerank_integrations.model.checkpoint import Checkpoint
    from bge_rerank_integrations.model.families.base import Family

FAMILIES = {
    "encoder": f"{__name__}.encoder:EncoderFamily",
    "llm": f"{__name__}.llm:LLMFamily",
    "layerwise": f"{__name__}.layerwise:LayerwiseFamily",
    "lightweight": f"{__name__}.lightweight:LightweightFamily",
    "classifier": f"{__name__}.classifier:ClassifierFamily",
}


def check_family(name: str) -> None:
    """Refuse a name that is not in the table."""
    if name not in FAMILIES:
        raise OptionError(f"family={name!r}: use one of {', '.join(FAMILIES)}, or None to read it from the checkpoint")


def family_class(name: str) -> type[Family]:
    """The class of a family by its name; its file is imported only now, so that families cannot break each other."""
    check_family(name)
    found: type[Family] = resolve_name(FAMILIES[name])
    return found


def find_family(checkpoint: Checkpoint) -> type[Family]:
    """The family whose config keys and tensors the checkpoint has; its name plays no part."""
    for name in FAMILIES:
        family = family_class(name)
        if family.claims(checkpoint):
            return family
    raise UnknownFamilyError(_describe_unknown(checkpoint))


def _describe_unknown(checkpoint: Checkpoint) -> str:
    families = {name: family_class(name) for name in FAMILIES}
    possible = [name for name, family in families.items() if family.runs(checkpoint.model_type)]
    if not checkpoint.model_type:
        return (
            f"{checkpoint.folder}: config.json has no model_type ({checkpoint.architecture}), without which nothing "
            "says how the model is built: copy config.json from the model that this one was made from"
        )
    remedy = (
        f"if it was fine-tuned from a model of the {possible[0]} family, say so with family={possible[0]!r}"
        if possible
        else "no family runs this model type, whatever family= says"
    )
    known = "; ".join(f"{name}: {family.what_runs()}" for name, family in families.items())
    return (
        f"{checkpoint.folder}: {checkpoint.architecture} (model_type {checkpoint.model_type!r}) is not known as a "
        f"reranker (model types that are, by family: {known}): {remedy}"
    )
