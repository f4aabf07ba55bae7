"""Scores on disk as they are computed: a run that was stopped continues where it was.

This is a JSON Lines file, to which lines are only appended. The first line has the fingerprint of the data. Then there
are lines of three kinds: a configuration with its settings, its scores for one query, and its times.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError

FORMAT = 1
BEGINNING = b'{"format": '


class Store:
    """Scores and times of all configurations. Only one process may have it open."""

    def __init__(self, path: Path, data: str) -> None:
        """Open the file, or start it. A last line that was not written completely is dropped.

        Args:
            data: the fingerprint of the data set.

        Raises:
            DataError: the file was made from other data, or is damaged.
        """
        self.path = path
        self._settings: dict[str, dict[str, Any]] = {}
        self._scores: defaultdict[str, dict[str, array[float]]] = defaultdict(dict)
        self._times: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._repair()
            self._load(data)
        self._file = path.open("a", encoding="utf-8", newline="\n")
        if self._file.tell() == 0:
            self._append([{"format": FORMAT, "data": data}])

    def open_configuration(self, name: str, settings: dict[str, Any]) -> None:
        """Start a configuration, or continue it. If its settings have changed, that is an error."""
        settings = json.loads(json.dumps(settings))
        known = self._settings.get(name)
        if known is None:
            self._settings[name] = settings
            self._append([{"configuration": name, "settings": settings}])
        elif known != settings:
            changed = [key for key in {**known, **settings} if known.get(key) != settings.get(key)]
            shown = ", ".join(f"{key} (was {known.get(key)!r}, is {settings.get(key)!r})" for key in changed)
            raise DataError(
                f"{self.path} has scores of {name!r} with other settings: {shown}. Give the configuration another "
                f"name, choose another folder, or delete {self.path} to start again"
            )

    def scores(self, name: str) -> dict[str, array[float]]:
        """A configuration's scores so far: for each query, one for each candidate in first-stage order."""
        return self._scores[name]

    def add(self, scored: Sequence[tuple[str, str, Sequence[float]]]) -> None:
        """Append scores, as (configuration, query, scores), without known ones. When it returns, they are on disk."""
        new = [(name, query, array("d", scores)) for name, query, scores in scored if query not in self._scores[name]]
        self._append([{"configuration": name, "query": query, "scores": list(scores)} for name, query, scores in new])
        for name, query, scores in new:
            self._scores[name][query] = scores

    def times(self, name: str, how: dict[str, Any]) -> dict[str, Any] | None:
        """A configuration's times, if they were measured in this way; otherwise None."""
        known = self._times.get(name)
        return known if known is not None and known["how"] == json.loads(json.dumps(how)) else None

    def add_times(self, name: str, times: dict[str, Any]) -> None:
        """Append times, a dictionary with `how` they were measured and more. The last ones count."""
        self._times[name] = times
        self._append([{"configuration": name, "times": times}])

    def close(self) -> None:
        with suppress(OSError):  # a failed write was an error when it happened
            self._file.close()

    def _append(self, rows: list[dict[str, Any]]) -> None:
        try:
            self._file.write("".join(json.dumps(row) + "\n" for row in rows))
            self._file.flush()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}; the scores in it are kept") from error

    def _repair(self) -> None:
        """Cut off a last line without a line break, if the file begins as those of this class."""
        with self.path.open("rb+") as file:
            content = file.read()
            if not (content.startswith(BEGINNING) or BEGINNING.startswith(content)):
                raise DataError(f"{self.path} was not written by this command: choose another folder")
            file.truncate(content.rfind(b"\n") + 1)

    def _load(self, data: str) -> None:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    self._take(json.loads(line), number == 1, data)
                except (ValueError, KeyError, TypeError) as error:
                    if isinstance(error, DataError):
                        raise
                    raise DataError(
                        f"{self.path}, line {number} is damaged: delete this line, or the file to start again"
                    ) from error

    def _take(self, row: dict[str, Any], first: bool, data: str) -> None:
        if first:
            if row["format"] != FORMAT or row["data"] != data:
                raise DataError(
                    f"{self.path} was made from other queries, candidates or judgements, or by another version: choose "
                    "another folder, or delete this file to start again"
                )
        elif "scores" in row:
            self._scores[row["configuration"]].setdefault(row["query"], array("d", row["scores"]))
        elif "times" in row:
            self._times[row["configuration"]] = row["times"]
        else:
            self._settings[row["configuration"]] = row["settings"]
