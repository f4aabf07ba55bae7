"""What can go wrong, as one tree::

    RerankError
    ├── CheckpointError          the folder, or a file in it, cannot be used
    │   ├── UnknownFamilyError   no family here runs this architecture
    │   └── WeightsError         a tensor is missing, unexpected, misshapen or not finite
    ├── HubError                 the hub was asked and did not deliver
    ├── DeviceError              the device does not exist here
    ├── OptionError              an option is unknown, out of range or of another family   (also a ValueError)
    ├── DataError                a file of texts cannot be used                             (also a ValueError)
    ├── ScoreError               the model gave NaN or infinity instead of a score
    ├── ClosedError              the scorer was closed, or belongs to another process
    ├── QueueFull                more waits than may, and nothing of it was scored within `timeout`
    ├── Timeout                  the scores were not there within `timeout`                (also a TimeoutError)
    ├── OutOfMemory              a single sequence does not fit the device's memory
    ├── WorkerError              a process that was to score did not start, or died again and again
    └── MissingExtraError        an optional dependency is not installed                   (also an ImportError)

A wrong argument (a text that is no string, a negative `top_n`) is a plain `TypeError` or `ValueError`.
"""

from __future__ import annotations


class RerankError(Exception):
    """The root: `except RerankError` catches everything this package raises on its own account."""


class CheckpointError(RerankError):
    """The folder, or a file in it, cannot be used."""


class UnknownFamilyError(CheckpointError):
    """No family here runs this architecture."""


class WeightsError(CheckpointError):
    """A tensor is missing, unexpected, misshapen or not finite."""


class HubError(RerankError):
    """The hub was asked and did not deliver."""


class DeviceError(RerankError):
    """The device does not exist here."""


class OptionError(RerankError, ValueError):
    """An option is unknown, out of range or of another family."""


class DataError(RerankError, ValueError):
    """A file of texts, or what to evaluate on, cannot be used: names file, line, value and remedy."""


class ScoreError(RerankError):
    """The model gave NaN or infinity instead of a score."""


class ClosedError(RerankError):
    """The scorer was closed, or belongs to another process."""


class QueueFull(RerankError):
    """More waits than may, and `timeout` made no room: the caller should slow down or go elsewhere."""


class Timeout(RerankError, TimeoutError):
    """The scores were not there within `timeout`; the work is dropped."""


class OutOfMemory(RerankError):
    """A single sequence does not fit the device's memory; batches of several are halved instead."""


class WorkerError(RerankError):
    """A process that was to score did not start, or died again and again."""


class MissingExtraError(RerankError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'bge-rerank-integrations[{extra}]'")
