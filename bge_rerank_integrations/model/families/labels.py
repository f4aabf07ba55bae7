"""One score out of a classifier's labels: its one label, or what two say."""

from __future__ import annotations

from torch import Tensor

from bge_rerank_integrations.errors import WeightsError
from bge_rerank_integrations.model.checkpoint import Checkpoint


def one_score(logits: Tensor, problem_type: str | None) -> Tensor:
    """A logit whose sigmoid is the probability of a match, as transformers' text-classification pipeline gives it.

    Of two labels that exclude each other, the second one's logit less the first one's; of two that do not
    (`problem_type` "multi_label_classification"), the second one's.

    *Shape:* (sequences, 1 or 2) -> (sequences, 1)
    """
    if logits.shape[-1] == 1:
        return logits
    second = logits[..., 1:]
    return second if problem_type == "multi_label_classification" else second - logits[..., :1]


def check_label_count(checkpoint: Checkpoint, count: int) -> None:
    """Refuse more labels than can be one score."""
    if count > 2:
        raise WeightsError(
            f"{checkpoint.folder}: config.json names {count} labels; a reranker has one, or two of which the second "
            "means a match: this is a classifier, so use another model, or fine-tune it with num_labels=1"
        )
