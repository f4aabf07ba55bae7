"""FlagEmbedding's interface over `Scorer`: change the import and keep the rest of the script.

Classes, arguments, defaults, attributes and scores are those of FlagEmbedding 1.4.2. An argument that has no effect
there has none here, and a warning says what to use instead. What differs, each on purpose: `compute_score` returns
`[]` for no pairs, which raises there; `devices=None` takes one device, not all; several cutoff layers come in
ascending order, each scored by its own head. `trust_remote_code` is accepted and never acted on, and so are
`batch_size`, `use_dataloader` and `num_workers`: batches are planned by tokens.
"""

from __future__ import annotations

from bge_rerank_integrations.flag.auto import MODEL_CLASSES, FlagAutoReranker
from bge_rerank_integrations.flag.decoders import (
    FlagLLMReranker,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
)
from bge_rerank_integrations.flag.encoder import FlagReranker

__all__ = [
    "MODEL_CLASSES",
    "FlagAutoReranker",
    "FlagLLMReranker",
    "FlagReranker",
    "LayerWiseFlagLLMReranker",
    "LightWeightFlagLLMReranker",
]
