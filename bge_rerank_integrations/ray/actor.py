"""What runs in each of Ray's processes: a model, loaded when it is first needed, again after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from bge_rerank_integrations.dataset.runner import Model, Outcome, score_rows
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Pair


class ScoringActor:
    """Scores the pairs of rows. Its calls come from several threads."""

    def __init__(self, model: Model, device: str | None) -> None:
        self._model = model
        self._device = device
        self._loading = Lock()
        self._scorer: ScorerProtocol | None = None

    def load(self) -> None:
        """Load the model now. Raises as `load_scorer`."""
        self._get()

    def score(self, rows: Sequence[list[Pair]]) -> list[Outcome]:
        """As `score_rows`."""
        return score_rows(self._get(), rows)

    def _get(self) -> ScorerProtocol:
        from bge_rerank_integrations.loading import load_scorer

        with self._loading:
            if self._scorer is None:
                self._scorer = load_scorer(devices=self._device, **self._model.arguments())
            return self._scorer
