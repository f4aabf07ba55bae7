"""A bounded cache of scores. Equal sequences that are in work at the same time are scored once, too."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Sequence

from cachetools import LRUCache

from bge_rerank_integrations.engine.work import LayerScores, Task


def key_of(task: Task) -> Hashable:
    """Everything that a score depends on, for given weights: tokens, where the passage is, and the forward pass."""
    return (task.sequence.key, task.request.recipe)


class ScoreCache:
    """Scores by key. Beyond `size` entries the least recently used is dropped."""

    def __init__(self, size: int) -> None:
        self._scores: LRUCache[Hashable, LayerScores] = LRUCache(size)
        self._running: dict[Hashable, list[Task]] = {}
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def claim(self, batch: Iterable[Task]) -> tuple[list[tuple[Task, LayerScores]], list[Task]]:
        """Split a batch: tasks whose scores are known (with the scores), and tasks to run (the first of each key).

        A task with the same key as one that runs, here or on another device, waits for `finish`.
        """
        known, to_run = [], []
        with self._lock:
            for task in batch:
                key = key_of(task)
                if (scores := self._scores.get(key)) is not None:
                    known.append((task, scores))
                    self.hits += 1
                elif key in self._running:
                    self._running[key].append(task)
                    self.hits += 1
                else:
                    self._running[key] = []
                    to_run.append(task)
                    self.misses += 1
        return known, to_run

    def finish(self, tasks: Sequence[Task], scored: Sequence[LayerScores]) -> list[tuple[Task, LayerScores]]:
        """Keep the scores of tasks that ran. Returns these and the tasks that waited for the same keys, with scores."""
        with self._lock:
            done = []
            for task, scores in zip(tasks, scored, strict=True):
                key = key_of(task)
                self._scores[key] = scores
                done.append((task, scores))
                done.extend((other, scores) for other in self._running.pop(key, []))
            return done

    def abandon(self, tasks: Sequence[Task]) -> list[Task]:
        """These tasks failed. Returns the tasks that waited for them: they must be run."""
        with self._lock:
            return [other for task in tasks for other in self._running.pop(key_of(task), [])]
