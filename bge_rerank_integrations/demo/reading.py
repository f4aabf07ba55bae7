"""Which words of a question a demonstration model cannot read."""

from __future__ import annotations

from bge_rerank_integrations.model.hub import find_checkpoint
from bge_rerank_integrations.options import ModelSource

UNKNOWN = "<unk>"


def unread_words(model: str, text: str) -> list[str]:
    """The words of which an embedded model's tokenizer knows no letter, such as those of other scripts."""
    encoded = find_checkpoint(ModelSource(model)).tokenizer.encode(text, add_special_tokens=False)
    spans = [span for token, span in zip(encoded.tokens, encoded.offsets, strict=True) if token == UNKNOWN]
    return [text[start:stop] for start, stop in spans if any(map(str.isalpha, text[start:stop]))]
