"""FlagEmbedding-compatible classes: change the import, and keep the rest of the script.

Classes, arguments, defaults, attributes and scores are those of FlagEmbedding 1.4.2. An argument without effect there
has no effect here, and a warning says what to use instead. These differences are intended: `compute_score` returns `[]`
for no pairs, where FlagEmbedding raises; `devices=None` uses one device, not all; several cutoff layers are returned in
ascending order, each scored by its own head. `trust_remote_code`, `batch_size`, `use_dataloader` and `num_workers` are
accepted and have no effect: no remote code is run, and batches are planned by tokens.
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
