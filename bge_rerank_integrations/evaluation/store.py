"""Scores on disk as they come, so that a run that was stopped goes on where it was.

A file of JSON lines, only ever appended to. The first line has the fingerprint of the data, then come lines of three
kinds: a configuration with its settings, the scores of one query under a configuration, the times of a configuration.
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
    """Scores and times of all configurations. One process may have it open."""

    def __init__(self, path: Path, data: str) -> None:
        """Open the file, or start it; what a kill left half-written at its end is dropped.

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
        """Start a configuration, or go on with it: with other settings than before that is an error."""
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
                f"name, choose another folder, or delete {self.path} to start anew"
            )

    def scores(self, name: str) -> dict[str, array[float]]:
        """A configuration's scores so far: for each query one for each candidate, in first-stage order."""
        return self._scores[name]

    def add(self, scored: Sequence[tuple[str, str, Sequence[float]]]) -> None:
        """Append scores, as (configuration, query, scores), leaving out what is known; on disk on return."""
        new = [(name, query, array("d", scores)) for name, query, scores in scored if query not in self._scores[name]]
        self._append([{"configuration": name, "query": query, "scores": list(scores)} for name, query, scores in new])
        for name, query, scores in new:
            self._scores[name][query] = scores

    def times(self, name: str, how: dict[str, Any]) -> dict[str, Any] | None:
        """A configuration's times, if they were taken in this way."""
        known = self._times.get(name)
        return known if known is not None and known["how"] == json.loads(json.dumps(how)) else None

    def add_times(self, name: str, times: dict[str, Any]) -> None:
        """Append times, a dictionary with `how` they were taken among others; the newest count."""
        self._times[name] = times
        self._append([{"configuration": name, "times": times}])

    def close(self) -> None:
        with suppress(OSError):  # what could not be written was an error when it was added
            self._file.close()

    def _append(self, rows: list[dict[str, Any]]) -> None:
        try:
            self._file.write("".join(json.dumps(row) + "\n" for row in rows))
            self._file.flush()
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}; what is there is kept") from error

    def _repair(self) -> None:
        """Cut off a last line without its end, in a file that begins as this class begins one."""
        with self.path.open("rb+") as file:
            content = file.read()
            if not (content.startswith(BEGINNING) or BEGINNING.startswith(content)):
                raise DataError(f"{self.path} is not a file of this command: choose another folder")
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
                        f"{self.path}, line {number} is damaged: delete this line, or the file to start anew"
                    ) from error

    def _take(self, row: dict[str, Any], first: bool, data: str) -> None:
        if first:
            if row["format"] != FORMAT or row["data"] != data:
                raise DataError(
                    f"{self.path} was made from other queries, candidates or judgements, or by another version: choose "
                    "another folder, or delete this file to start anew"
                )
        elif "scores" in row:
            self._scores[row["configuration"]].setdefault(row["query"], array("d", row["scores"]))
        elif "times" in row:
            self._times[row["configuration"]] = row["times"]
        else:
            self._settings[row["configuration"]] = row["settings"]
