"""What a server accepts, and from whom."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import whole_number


@dataclass(frozen=True)
class ServerSettings:
    """Limits of a server, and its key. What a scorer itself is limited to stands in `options.EngineSettings`."""

    api_key: str | None = field(default=None, repr=False)
    """What clients must send as `Authorization: Bearer KEY`; None: everyone may ask."""
    max_requests: int = 1_024
    """Requests that may be under way; one more is answered 429."""
    max_body_bytes: int = 10_000_000
    """Bytes of a request's body; a longer one is answered 413."""
    max_body_seconds: int = 30
    """Seconds that a body may take to arrive; a slower one is answered 408."""
    max_texts: int = 10_000
    """Texts of a request; more are answered 422."""
    max_characters: int = 200_000
    """Characters of a query, a prompt or a text; a longer one is answered 422. How many tokens of it are read is the
    scorer's `max_length`."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if limit.name != "api_key" and (whole_number(value) or 0) < 1:
                raise OptionError(f"{limit.name}={value!r}: use a whole number of 1 or more")
        key = self.api_key
        if key is not None and not (key.strip() == key != "" and key.isascii() and key.isprintable()):
            raise OptionError(
                "the API key is empty, begins or ends with a space, or has characters that no header can carry: use "
                "printable ASCII"
            )
