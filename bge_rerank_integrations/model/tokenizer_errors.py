"""What `tokenizers` raises, as errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bge_rerank_integrations.errors import CheckpointError

_RAISED = (Exception, ValueError, TypeError, OverflowError, UnicodeEncodeError, UnicodeDecodeError)


@contextmanager
def tokenizer_errors(what: str) -> Iterator[None]:
    """Whatever tokenizers raises as a CheckpointError: bare Exceptions, and panics, which are not even those.

    Exceptions of other classes pass: a signal's handler may have raised them while the tokenizer worked.
    """
    try:
        yield
    except BaseException as error:
        if type(error) in _RAISED or type(error).__name__ == "PanicException":
            raise CheckpointError(f"{what}: {error}") from error
        raise
