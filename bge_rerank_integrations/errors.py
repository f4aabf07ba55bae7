"""The errors, as one tree::

    RerankError
    ├── CheckpointError          the folder, or a file in it, cannot be used
    │   ├── UnknownFamilyError   no family here runs this architecture
    │   └── WeightsError         a tensor is missing, unexpected, of another shape or not finite
    ├── HubError                 the model could not be fetched from the hub
    ├── RemoteError              a server did not give scores
    ├── DeviceError              the device does not exist here
    ├── OptionError              an option is unknown, out of range or of another family   (also a ValueError)
    ├── DataError                a file of texts cannot be used                             (also a ValueError)
    ├── ScoreError               the model returned NaN or infinity instead of a score
    ├── ClosedError              the scorer was closed, or belongs to another process
    ├── QueueFull                the queue was full, and had no room within `timeout`
    ├── Timeout                  not scored, or not loaded, within `timeout`               (also a TimeoutError)
    ├── OutOfMemory              a single sequence, or the layers it needs, do not fit the device's memory
    ├── WorkerError              a process that was to score did not start, or died again and again
    └── MissingExtraError        an optional dependency is not installed                   (also an ImportError)

A wrong argument (a text that is not a string, a negative `top_n`) is a plain `TypeError` or `ValueError`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence


class RerankError(Exception):
    """The base class: `except RerankError` catches all errors of this package."""


class CheckpointError(RerankError):
    """The folder, or a file in it, cannot be used."""


class UnknownFamilyError(CheckpointError):
    """No family here runs this architecture."""


class WeightsError(CheckpointError):
    """A tensor is missing, unexpected, of another shape or not finite."""


class HubError(RerankError):
    """The model could not be fetched from the hub."""


class RemoteError(RerankError):
    """A server that scores was asked and did not deliver."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of its answer; None: it did not answer, or not as it should."""


class DeviceError(RerankError):
    """The device does not exist here."""


class OptionError(RerankError, ValueError):
    """An option is unknown, out of range or of another family."""


class DataError(RerankError, ValueError):
    """A file of texts, or of evaluation data, cannot be used. The message names file, line, value and remedy."""


class ScoreError(RerankError):
    """The model returned NaN or infinity instead of a score."""


class ClosedError(RerankError):
    """The scorer was closed, or belongs to another process."""


class QueueFull(RerankError):
    """The queue was full, and had no room within `timeout`: send less at once, or try again later."""


class Timeout(RerankError, TimeoutError):
    """Not scored within `timeout`: what was not scored yet is dropped. Or not loaded within it."""


class OutOfMemory(RerankError):
    """A single sequence, or the layers it needs, do not fit the device's memory. (Larger batches are halved.)"""


class WorkerError(RerankError):
    """A process that was to score did not start, or died again and again."""


class MissingExtraError(RerankError, ImportError):
    """Optional dependencies are not installed; the message has a command that installs them, wherever this package is
    from.

    Args:
        packages: as `pip install` takes them.
        extra: what brings them when this package is installed with it.
    """

    def __init__(self, packages: Sequence[str], extra: str) -> None:
        them = "it" if len(packages) == 1 else "them"
        super().__init__(
            f"{', '.join(packages)}: not installed, and {extra!r} needs {them}. Run: pip install {shlex.join(packages)}"
        )
