"""The scores that the publishers print for the real weights, wherever the hub or its cache has them.

Deselected by default; `python -m pytest -m real_weights` runs it. A model that cannot be had is skipped.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import HubError
from tests.conftest import PARITY

PUBLISHED = json.loads((PARITY / "published_scores.json").read_text(encoding="utf-8"))
NAMES = [f"{case['model']}-{case['pairs']}-{case['call']}" for case in PUBLISHED["cases"]]


@pytest.mark.real_weights
@pytest.mark.parametrize("case", PUBLISHED["cases"], ids=NAMES)
def test_published_scores(case: dict[str, Any]) -> None:
    options = dict(case["call"])
    normalized = options.pop("normalize", False)
    if cutoffs := options.pop("cutoff_layers", None):
        (options["cutoff_layer"],) = cutoffs
    try:
        scorer = load_scorer(case["model"], scale="sigmoid" if normalized else "logit", **options)
    except HubError as error:
        pytest.skip(str(error))
    pairs = [(query, text) for query, text in PUBLISHED["pairs"][case["pairs"]]]
    with scorer:  # the published scores were made in half precision
        assert scorer.score_pairs(pairs) == pytest.approx(case["scores"], abs=0.005 if normalized else 0.15)
