"""The output folder: one file a block, each there as a whole or not at all, and what they were made from.

    _job.json                     input files, model, options: a later run must have the same
    _set_aside/part-00000012.jsonl    the rows of block 12 that could not be scored, and why
    part-00000012.parquet         the scores of block 12; it is written last, so that it says that the block is done

Readers of Parquet folders leave out names that begin with "_" or ".".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock
from filelock import Timeout as Held

from bge_rerank_integrations.dataset.formats import Format, Scored
from bge_rerank_integrations.dataset.rows import Shape
from bge_rerank_integrations.errors import DataError

FORMAT = 1
JOB = "_job.json"
LOCK = ".lock"
SET_ASIDE = "_set_aside"
TEMPORARY = ".writing-"


class Output:
    """An output folder that this process alone writes; made by `open_output`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._job = folder / JOB

    @property
    def set_aside_folder(self) -> Path:
        return self.folder / SET_ASIDE

    def known_files(self) -> list[dict[str, Any]]:
        """The input files that the folder's scores are made from, as `Source.describe` gave them; empty: it is new."""
        return [] if (job := self._read()) is None else list(job["input"])

    def settle(self, files: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
        """Note down what the scores are made from, or make sure that it is what was noted down before.

        Raises:
            DataError: it is not; the message names every difference.
        """
        job = json.loads(json.dumps({"format": FORMAT, "settings": settings, "input": files}))
        known = self._read()
        if known is None:
            self._replace(self._job, lambda file: file.write(json.dumps(job).encode()))
            return
        differences = [*_changed_settings(known["settings"], job["settings"]), *_changed_files(known["input"], files)]
        if differences:
            raise DataError(
                f"{self.folder} holds scores of another job: {'; '.join(differences)}. Choose another folder, or give "
                "what was given then"
            )

    def finished(self) -> set[int]:
        """The numbers of the blocks that are done."""
        names = (re.fullmatch(r"part-(\d+)\.\w+", path.name) for path in self.folder.iterdir())
        return {int(name[1]) for name in names if name}

    def commit(
        self, number: int, form: Format, scored: Sequence[Scored], set_aside: Sequence[Mapping[str, Any]], shape: Shape
    ) -> None:
        """Write a block: on return it is on the disk for good, and before that it is not there."""
        aside = self.set_aside_folder / f"part-{number:08}.jsonl"
        if set_aside:
            lines = "".join(json.dumps(row) + "\n" for row in set_aside)
            self._replace(aside, lambda file: file.write(lines.encode()))
        self._replace(self.folder / f"part-{number:08}.{form.suffix}", lambda file: form.write(file, scored, shape))

    def count_set_aside(self) -> int:
        """How many rows of all blocks could not be scored."""
        return sum(path.read_bytes().count(b"\n") for path in self.set_aside_folder.glob("part-*.jsonl"))

    def _read(self) -> dict[str, Any] | None:
        try:
            job: dict[str, Any] = json.loads(self._job.read_bytes())
            if job["format"] != FORMAT:
                raise DataError(f"{self._job} was written by another version: choose another folder")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self._job} is damaged: choose another folder") from error
        return job

    def _replace(self, path: Path, write: Callable[[BinaryIO], object]) -> None:
        temporary = path.with_name(TEMPORARY + path.name)
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written: {error.strerror}; what is there is kept, and the same command goes on"
            ) from error


@contextmanager
def open_output(folder: str | os.PathLike[str]) -> Iterator[Output]:
    """The folder, made if need be, for one process at a time; what a killed one left half-written is removed.

    Raises:
        DataError: another process has it, or it has files that are not of this command.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file: name a folder for the scores")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = {path.name for path in folder.iterdir()} - {LOCK, SET_ASIDE}
        if JOB not in others and not all(name.startswith(TEMPORARY) for name in others):
            raise DataError(f"{folder} has files that are not of this command: choose an empty or another folder")
        (folder / SET_ASIDE).mkdir(exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            for parent in (folder, folder / SET_ASIDE):
                for path in parent.glob(f"{TEMPORARY}*"):
                    path.unlink()
            yield Output(folder)
    except Held as error:
        raise DataError(f"{folder} is being written by another process: wait for it, or choose another") from error


def _changed_settings(known: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    for name in {**known, **given}:
        if known.get(name) != given.get(name):
            before, now = (repr(job[name]) if name in job else "left at its default" for job in (known, given))
            yield f"{name} was {before} and is {now}"


def _changed_files(known: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    before = {entry["name"]: entry["digest"] for entry in known}
    now = {entry["name"]: entry["digest"] for entry in given}
    for name in {**before, **now}:
        if name not in now:
            yield f"the input had {name} and has it no more"
        elif name not in before:
            yield f"the input had no {name} and has it now"
        elif before[name] != now[name]:
            yield f"the content of {name} is another"


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a loss of power, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
