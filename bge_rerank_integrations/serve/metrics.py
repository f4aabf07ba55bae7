"""What Prometheus reads: the scorers' own counts, and the requests'."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.serve.models import Served
from bge_rerank_integrations.stats import Stats

PREFIX = "bge_rerank"
NOW = ("queued_requests", "queued_tokens", "token_budget")
"""Those of `Stats` that go up and down; the others only grow."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def stats_of(scorer: ScorerProtocol) -> Stats | None:
    """What a scorer counts; None: it counts nothing."""
    stats: Callable[[], Stats] | None = getattr(scorer, "stats", None)
    return None if stats is None else stats()


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self, models: Served) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_ScorerCollector(models))
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            f"{PREFIX}_http_requests", "Requests answered.", ("path", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            f"{PREFIX}_http_request_seconds",
            "From a request's head to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge(
            f"{PREFIX}_http_requests_under_way", "Requests not yet answered.", registry=self.registry
        )

    def count(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


class _ScorerCollector(Collector):
    """Asks each scorer when Prometheus asks."""

    def __init__(self, models: Served) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily(f"{PREFIX}_ready", "1 where a model can score.", labels=("model", "state"))
        for name, state in self._models.states.items():
            ready.add_metric((name, state.value), float(state.value == "ready"))
        yield ready
        counted = {name: stats_of(scorer) for name, scorer in self._models.loaded().items()}
        yield from _families({name: stats for name, stats in counted.items() if stats is not None})


def _families(counted: Mapping[str, Stats]) -> Iterable[Metric]:
    """A metric for each field of `Stats` that is a number."""
    for field in fields(Stats):
        if field.type not in ("int", "float"):
            continue
        kind = GaugeMetricFamily if field.name in NOW else CounterMetricFamily
        family = kind(f"{PREFIX}_{_name(field.name)}", f"stats().{field.name} of a scorer.", labels=("model",))
        for name, stats in counted.items():
            family.add_metric((name,), getattr(stats, field.name))
        yield family


def _name(field: str) -> str:
    """Prometheus puts units last."""
    what = field.removeprefix("seconds_")
    return what if what == field else f"{what}_seconds"
