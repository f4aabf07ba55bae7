"""The simulation of a server gives known answers where these are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.soak.simulate import Costs, Limits, Outcome, at_rate, by_clients, highest_rate

PLAIN = Costs(
    "made up: a pair takes 10 ms, alone",
    fixed_seconds=0.004,
    seconds_per_token=6e-5,
    workers=1,
    token_budget=100,
    lengths=(100,),
)
ENDLESS = Limits(requests=10**9, queued_tokens=10**9, seconds=math.inf)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_one_pair_at_a_time_waits_as_a_formula_says(load: float) -> None:
    service = PLAIN.seconds(100)
    outcome = at_rate(load / service, PLAIN, ENDLESS, requests=8000, texts=1)
    waiting = service * load / (2 * (1 - load))  # M/D/1, Pollaczek and Khinchine
    assert sum(outcome.waits) / 8000 == pytest.approx(service + waiting, rel=0.05)
    assert not outcome.saturated


def test_a_lone_client_waits_for_its_own_batches_alone() -> None:
    outcome, seconds = by_clients(1, replace(PLAIN, token_budget=200), ENDLESS, requests=10, texts=3)
    assert outcome.waits == pytest.approx([0.004 * 2 + 6e-5 * 300] * 10)
    assert seconds == pytest.approx(sum(outcome.waits))


def test_workers_share_the_work() -> None:
    _, seconds = by_clients(8, replace(PLAIN, workers=4), ENDLESS, requests=400, texts=1)
    assert seconds == pytest.approx(400 / 4 * 0.01)


def test_each_request_ends_once() -> None:
    for limits in (ENDLESS, Limits(requests=5, queued_tokens=300, seconds=0.05)):
        assert len(at_rate(150, replace(PLAIN, workers=2), limits, requests=1000, texts=3).waits) == 1000
        assert len(by_clients(20, PLAIN, limits, requests=1000, texts=3)[0].waits) == 1000


def test_more_than_it_holds_is_seen() -> None:
    assert at_rate(130, PLAIN, ENDLESS, requests=2000, texts=1).saturated
    limited = at_rate(200, PLAIN, Limits(requests=20), requests=4000, texts=1)
    assert limited.refused == pytest.approx(0.5, abs=0.03)
    assert limited.saturated
    assert limited.within(0.99) == math.inf
    assert limited.within(0.4) == pytest.approx(20 * 0.01, rel=0.1)


def test_a_request_without_an_answer_in_time_is_refused() -> None:
    outcome, _ = by_clients(10, PLAIN, Limits(seconds=0.055), requests=10, texts=1)
    assert sorted(outcome.waits) == pytest.approx([0.01 * i for i in range(1, 6)] + [math.inf] * 5)


def test_the_highest_rate_that_holds_a_time() -> None:
    def run(rate: float) -> Outcome:
        return Outcome([rate / 100] * 100)

    assert highest_rate(0.5, run, most=100) == pytest.approx(50, abs=1)
    assert highest_rate(0.0, run, most=100) == 0.0
