"""Scores and times of configurations: each model is loaded once, its layers are scored in one pass."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bge_rerank_integrations import __version__
from bge_rerank_integrations.errors import CheckpointError, OptionError
from bge_rerank_integrations.evaluation.configurations import Configuration, Loading
from bge_rerank_integrations.evaluation.data import Dataset, Watch
from bge_rerank_integrations.evaluation.store import Store
from bge_rerank_integrations.loading import is_address, load_scorer, resolve
from bge_rerank_integrations.machine import Memory, hardware
from bge_rerank_integrations.model.devices import dtype_name
from bge_rerank_integrations.model.families.base import Family
from bge_rerank_integrations.options import RankingOptions, ScoringOptions, not_by_default
from bge_rerank_integrations.reranking import Plan
from bge_rerank_integrations.scorer import Scorer, limits
from bge_rerank_integrations.text_choice import Passage

CPU_PAIRS, GPU_PAIRS = 64, 1024
"""Pairs to score in one call, at least: these are lost if the run is stopped, but a GPU needs many at a time."""

TEXT_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "adapter_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
"""The files, besides the weights, that scores depend on."""
MOST_BYTES = 1 << 30
"""The size of one of them at most: the largest known has a thirtieth of it."""


@dataclass(frozen=True)
class Model:
    """Configurations with the same weights, checked against the checkpoint without loading it."""

    loading: Loading
    configurations: list[Configuration]
    family: Family | None
    """None: a server's, of which nothing is known."""
    settings: dict[str, Any]
    """What scores depend on besides the options: weights, device, dtype and more, or the server."""

    def depth(self, configuration: Configuration) -> int:
        """How many layers it runs: its cutoff, where the family has any."""
        if self.family is None:
            return 0
        return self.family.recipe(configuration.options).depth(self.family.dimensions.layers)

    @property
    def has_cutoffs(self) -> bool:
        return self.family is not None and bool(self.family.allowed_cutoffs)

    def shared_pass(self, options: ScoringOptions) -> ScoringOptions:
        """See `Family.shared_pass`; a server's scores share none."""
        return options if self.family is None else self.family.shared_pass(options)

    def passes(self) -> list[list[Configuration]]:
        """Configurations that one forward pass scores together: those that differ in cutoff layer and fusion alone."""
        groups: dict[tuple[ScoringOptions, RankingOptions], list[Configuration]] = {}
        for configuration in self.configurations:
            shared = self.shared_pass(configuration.options), read_as(configuration)
            groups.setdefault(shared, []).append(configuration)
        return list(groups.values())

    def deepest(self) -> Configuration:
        """The configuration with most layers. Loaded with it, the model has the layers of all others."""
        return max(self.configurations, key=self.depth)


def read_as(configuration: Configuration) -> RankingOptions:
    """How its texts are read: the ranking options that scores depend on."""
    options = configuration.ranking
    if options.long != "windows":
        return RankingOptions(blank="score", long=options.long)
    return RankingOptions(
        blank="score", long="windows", window_overlap=options.window_overlap, max_windows=options.max_windows
    )


def reading(scorer: Scorer, data: Dataset, query: str, options: RankingOptions) -> Plan:
    """Which texts are scored for a query: its candidates, or their windows."""
    return Plan.of(data.queries[query], [Passage(text) for _, text in data.pairs(query)], options, scorer)


def find_models(configurations: Sequence[Configuration], watch: Watch) -> list[Model]:
    """The models that the configurations need. Every option is checked now, not after hours of work.

    Raises:
        CheckpointError, HubError, DeviceError, OptionError: as `load_scorer`; the message names the configuration.
    """
    groups: dict[Loading, list[Configuration]] = {}
    for configuration in configurations:
        groups.setdefault(configuration.loading, []).append(configuration)
    models = []
    for done, (loading, members) in enumerate(groups.items()):
        watch("checking models", done, len(groups))
        if is_address(loading.source.model):
            models.append(_server(loading, members))
            continue
        found = resolve(loading.source, loading.placement)
        family, checkpoint = found.family, found.checkpoint
        for configuration in members:
            try:
                _check(family, configuration.options)
            except OptionError as error:
                raise OptionError(f"configuration {configuration.name!r}: {error}") from error
        digest = hashlib.sha256()
        for path in [path for folder in checkpoint.folders for path in sorted(folder.glob("*"))]:
            if path.is_file() and (path.suffix == ".safetensors" or path.name in TEXT_FILES):
                _check_size(path)
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 22):
                        digest.update(block)
        settings = {
            "family": family.name,
            "weights or tokenizer": digest.hexdigest()[:16],
            "dtype": dtype_name(found.dtype),
            "devices": [device.type for device in found.devices],
            "scores": "logits",  # whatever the scale: only their order counts here
            "package": __version__,
        }
        models.append(Model(loading, members, family, settings))
    watch("checking models", len(groups), len(groups))
    return models


def _server(loading: Loading, members: list[Configuration]) -> Model:
    """A server's scores; it is not asked for any before the others are checked."""
    for configuration in members:
        load_scorer(**loading.arguments(), **asdict(configuration.options)).close()  # refuses what cannot be
    server = loading.server
    settings = {
        "server": loading.source.model,
        "dialect": server.dialect,
        "served_model": server.served_model,
        "package": __version__,
    }
    return Model(loading, members, None, settings)


def _check_size(path: Path) -> None:
    if path.name in TEXT_FILES and path.stat().st_size > MOST_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes: this is not a file of a model")


def _check(family: Family, options: ScoringOptions) -> None:
    """Refuse what cannot be scored, and options that would change nothing."""
    family.check(options)
    family.recipe(options)
    _ = family.checkpoint.tensors  # opens every file
    family.check_tensors()
    family.check_effect(options)
    family.inputs(options, limits(family, options))


def score_and_time(model: Model, data: Dataset, store: Store, sample: TimedSample, watch: Watch) -> None:
    """Add all missing scores and times of a model's configurations to the store. Loads the model only if some are."""
    for configuration in model.configurations:
        read = read_as(configuration)
        windowed = not_by_default(read) if read.long != "truncate" else {}  # folders of before have none
        settings = asdict(configuration.options) | windowed | model.settings
        store.open_configuration(configuration.name, settings)
    untimed = [c for c in model.configurations if store.times(c.name, sample.how) is None]
    unscored = any(len(store.scores(c.name)) < len(data.queries) for c in model.configurations)
    if not untimed and not unscored:
        return
    watch(f"loading {model.loading.source.model}", 0, 1)
    deepest = asdict(model.deepest().options)
    with load_scorer(**model.loading.arguments(), **deepest) as scorer:
        watch(f"loading {model.loading.source.model}", 1, 1)
        for members in model.passes():
            _score(scorer, model, members, data, store, watch)
        if untimed:
            options = {c.name: (scorer.with_options(**asdict(c.options)), read_as(c)) for c in untimed}
            for name, times in sample.take(options, data, watch).items():
                store.add_times(name, times)


def _score(
    scorer: Scorer, model: Model, members: list[Configuration], data: Dataset, store: Store, watch: Watch
) -> None:
    """Score every query with configurations that share a pass.

    Queries are scored in fixed groups. If a score of a group is missing, the whole group is scored again: batches, and
    with them scores, are then those of a run that was not stopped.
    """
    shared = scorer.with_options(**asdict(model.shared_pass(members[0].options)))
    cutoffs = [model.depth(member) for member in members] if model.has_cutoffs else []
    least = GPU_PAIRS if "cuda" in model.settings.get("devices", ()) else CPU_PAIRS
    what = f"scoring {members[0].name}" + (f" and {len(members) - 1} more" if members[1:] else "")
    done = 0
    for queries in _groups(data, least):
        if any(query not in store.scores(member.name) for member in members for query in queries):
            plans = [reading(shared, data, query, read_as(members[0])) for query in queries]
            pairs = [
                (data.queries[query], text) for query, plan in zip(queries, plans, strict=True) for text in plan.texts
            ]
            if cutoffs:
                layers = shared.score_layers(pairs, list(dict.fromkeys(cutoffs)))
                columns = [layers[cutoff] for cutoff in cutoffs]
            else:
                columns = [shared.score_pairs(pairs)] * len(members)
            rows = []
            for member, column in zip(members, columns, strict=True):
                start = 0
                for query, plan in zip(queries, plans, strict=True):
                    stop = start + len(plan.texts)
                    rows.append((member.name, query, plan.best(column[start:stop])))
                    start = stop
            store.add(rows)
        done += len(queries)
        watch(what, done, len(data.queries))


def _groups(data: Dataset, least: int) -> Iterator[list[str]]:
    """Queries in order, in groups with at least `least` candidates."""
    group: list[str] = []
    count = 0
    for query in data.queries:
        group.append(query)
        count += len(data.candidates[query])
        if count >= least:
            yield group
            group, count = [], 0
    if group:
        yield group


class TimedSample:
    """Times each configuration alone, at its own cutoff: one call for each query of a sample."""

    def __init__(self, data: Dataset, queries: int, seed: int) -> None:
        if queries < 1:
            raise OptionError(f"timing_queries={queries}: time at least 1 query")
        some = [query for query in data.queries if data.candidates[query]]
        self.queries = random.Random(seed).sample(some, min(queries, len(some)))
        self.how = {
            "queries": self.queries,
            "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else hardware(),
            "threads": torch.get_num_threads(),
        }

    def take(
        self, scorers: dict[str, tuple[Scorer, RankingOptions]], data: Dataset, watch: Watch
    ) -> dict[str, dict[str, Any]]:
        """Seconds for each sampled query, and the memory that the longest of them takes beyond the weights.

        For each query, all configurations are timed in turn: if the machine becomes slower, it does so for all of them.
        """
        longest = max(self.queries, key=lambda query: sum(len(text) for _, text in data.pairs(query)))
        extra: dict[str, int | None] = {}
        seconds: dict[str, list[float]] = {name: [] for name in scorers}
        total = len(scorers) * (len(self.queries) + 1)
        for done, (name, (scorer, options)) in enumerate(scorers.items()):
            watch("timing", done, total)
            _work(scorer, data, longest, options)  # the first call is slower than later ones
            extra[name] = _extra_memory(partial(_work, scorer, data, longest, options))
            _work(scorer, data, longest, options)  # the measurement freed memory: allocate it again
        done = len(scorers)
        for query in self.queries:
            for name, (scorer, options) in scorers.items():
                started = time.perf_counter()
                _work(scorer, data, query, options)
                seconds[name].append(time.perf_counter() - started)
                done += 1
                watch("timing", done, total)
        return {name: {"how": self.how, "seconds": seconds[name], "extra_bytes": extra[name]} for name in scorers}


def _work(scorer: Scorer, data: Dataset, query: str, options: RankingOptions) -> None:
    """What one query costs: its texts are cut into windows, where there are any, and scored."""
    texts = reading(scorer, data, query, options).texts
    scorer.score_pairs([(data.queries[query], text) for text in texts])


def _extra_memory(work: Callable[[], None]) -> int | None:
    """The peak of memory for scoring, in bytes, without what was in use before; None if the system does not tell."""
    try:
        memory = Memory()
        work()
        return memory.extra()
    except OSError:
        return None
