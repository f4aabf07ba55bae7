"""What clients are told."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.serve import ServerSettings
from bge_rerank_integrations.serve.metrics import NOW
from bge_rerank_integrations.serve.problems import retry_after
from bge_rerank_integrations.stats import Counters, Stats


def stats(queued_tokens: int, tokens: int, seconds: float) -> Stats:
    now = {"queued_requests": 1, "queued_tokens": queued_tokens, "token_budget": 1, "cache_hits": 0, "cache_misses": 0}
    return Counters(tokens=tokens, seconds_forward=seconds).stats(**now)


@pytest.mark.parametrize(
    ("queued", "tokens", "seconds", "wait"),
    [(0, 0, 0.0, "1"), (1_000, 0, 0.0, "1"), (5_000, 10_000, 10.0, "5"), (10, 10_000, 1.0, "1"), (10**9, 1, 1.0, "60")],
)
def test_when_to_come_again(queued: int, tokens: int, seconds: float, wait: str) -> None:
    """When what waits will be scored, at the rate so far; between a second and a minute."""
    assert retry_after(stats(queued, tokens, seconds)) == {"Retry-After": wait}


def test_metrics_that_go_up_and_down_are_counted_as_such() -> None:
    totals = {field.name for field in fields(Counters)}
    assert set(NOW) <= {field.name for field in fields(Stats)}
    assert not totals & set(NOW)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_texts": 0}, "max_texts=0: use a whole number of 1 or more"),
        ({"max_requests": True}, "max_requests=True"),
        ({"max_body_bytes": "1"}, "max_body_bytes='1'"),
        ({"api_key": ""}, "the API key is empty"),
        ({"api_key": "a\nb"}, "characters that no header can carry"),
        ({"api_key": "schlüssel-ключ"}, "characters that no header can carry"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as raised:
        ServerSettings(**wrong)
    assert said in str(raised.value)
    assert str(wrong.get("api_key") or "nothing") not in str(raised.value)
