"""Every refusal and failure as an answer: one body in which clients of each dialect find the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from bge_rerank_integrations.errors import ClosedError, OptionError, OutOfMemory, QueueFull, RerankError, Timeout
from bge_rerank_integrations.serve.answers import Answer
from bge_rerank_integrations.serve.models import UnknownModelError
from bge_rerank_integrations.serve.schemas import COHERE, TEI, Problem
from bge_rerank_integrations.stats import Stats

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""Nobody reads it; the access log and the metrics show it, under nginx's number."""
BRANCHES = (TEI, COHERE, "str", "TextDocument")
"""What pydantic tells of where a mistake is and no client sends: which of several forms it was."""
SHORT, LONG = 1, 60
"""Seconds: the least and the most that a client is told to wait."""


class RefusedError(Exception):
    """A request that is well-formed and cannot be answered."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind


class ClientGoneError(Exception):
    """Whoever asked does not listen any more."""


def problem(status: int, kind: str, reason: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer; `kind` is TEI's `error_type`."""
    body = Problem(message=reason, error=reason, detail=reason, error_type=kind)
    return Answer(body.model_dump(), status, headers)


def retry_after(stats: Stats | None = None) -> dict[str, str]:
    """The header that says when to come again: when what waits now will be scored, at the rate so far."""
    seconds = SHORT
    if stats is not None and stats.tokens:
        seconds = round(stats.queued_tokens * stats.seconds_forward / stats.tokens)
    return {"Retry-After": str(min(max(seconds, SHORT), LONG))}


def add_handlers(app: FastAPI) -> None:
    """Answer what the application raises."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(422, "Validation", _told(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, "Validation", str(error.detail), error.headers)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return problem(error.status, error.kind, str(error))

    @app.exception_handler(OptionError)
    async def option(request: Request, error: OptionError) -> Response:
        return problem(400, "Validation", str(error))

    @app.exception_handler(UnknownModelError)
    async def unknown(request: Request, error: UnknownModelError) -> Response:
        return problem(404, "Validation", str(error))

    @app.exception_handler(QueueFull)
    async def full(request: Request, error: QueueFull) -> Response:
        stats: Callable[[], Stats | None] = request.state.stats
        return problem(429, "Overloaded", str(error), retry_after(stats()))

    @app.exception_handler(Timeout)
    async def late(request: Request, error: Timeout) -> Response:
        return problem(504, "Overloaded", str(error))

    @app.exception_handler(ClosedError)
    async def closed(request: Request, error: ClosedError) -> Response:
        return problem(503, "Unhealthy", str(error), retry_after())

    @app.exception_handler(ClientGoneError)
    async def gone(request: Request, error: ClientGoneError) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(OutOfMemory)
    async def too_large(request: Request, error: OutOfMemory) -> Response:
        logger.error("%s", error)
        return problem(500, "Backend", "a text does not fit the device's memory: send shorter ones")

    @app.exception_handler(RerankError)
    async def failed(request: Request, error: RerankError) -> Response:
        logger.error("scoring failed: %s", error, exc_info=error)
        return problem(500, "Backend", f"scoring failed ({type(error).__name__}); the server's log has the reason")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return problem(500, "Backend", "internal error; the server's log has the reason")  # the server logs it itself


def _told(error: RequestValidationError) -> str:
    """Where and what, never the value: it may be a text, and megabytes long."""
    told = [_told_once(one["loc"][1:], one["type"], one["msg"]) for one in error.errors()[:5]]
    more = len(error.errors()) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _told_once(location: tuple[str | int, ...], kind: str, message: str) -> str:
    if kind == "json_invalid":
        return f"the body is not JSON: see its character {location[0]}"
    where = ".".join(str(part) for part in location if part not in BRANCHES) or "the body"
    return f"{where}: {'unknown field, /openapi.json lists those there are' if kind == 'extra_forbidden' else message}"
