"""`load_scorer`: on which numbers and on how many devices it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import OptionError
from tests.conftest import CHECKPOINTS, FAMILIES

ENCODER = CHECKPOINTS / "encoder"


@pytest.mark.parametrize("dtype", ["double", "int4", None])
def test_an_unknown_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(OptionError, match="dtype"):
        load_scorer(ENCODER, dtype=dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_on_the_cpu(family: str, dtype: str, scorers: Callable[[str], Scorer]) -> None:
    texts = ["a", "some longer text", "word " * 50]
    with load_scorer(CHECKPOINTS / family, dtype=dtype, devices="cpu") as half:
        assert half.score("q", texts) == pytest.approx(scorers(family).score("q", texts), abs=0.15)


def test_two_replicas_give_the_same_scores(encoder: Scorer) -> None:
    texts = [f"text {i} " * (i % 40 + 1) for i in range(100)]
    with load_scorer(ENCODER, devices=["cpu", "cpu"], token_budget=512) as two:
        assert two.score("q", texts) == pytest.approx(encoder.score("q", texts), abs=1e-5)
