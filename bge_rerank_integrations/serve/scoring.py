"""From a request to a ranking, by any scorer of the protocol, and no further than somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from fastapi import Request

from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import Scale
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Ranked, scaled
from bge_rerank_integrations.serve.problems import ClientGoneError

Answer = TypeVar("Answer")


@runtime_checkable
class Adjustable(Protocol):
    """A scorer that makes others over the same weights."""

    def with_options(self, **changes: Any) -> ScorerProtocol:
        """A scorer with some of its options changed."""


async def ranking(
    scorer: ScorerProtocol,
    query: str,
    texts: Sequence[str],
    *,
    changes: Mapping[str, Any],
    scale: Scale,
    top_n: int | None = None,
) -> list[Ranked]:
    """The texts by score, best first, ties in the order given.

    Args:
        changes: scoring options of this request.
        scale: of the scores that are returned, whatever the scorer's own.

    Raises:
        OptionError: the scorer does not take an option, or cannot give the scale.
    """
    wanted = dict(changes)
    if scorer.options.scale != scale:
        wanted["scale"] = scale
    if not wanted:
        return await scorer.arank(query, texts, top_n)
    if isinstance(scorer, Adjustable):
        return await scorer.with_options(**wanted).arank(query, texts, top_n)
    if changes:
        raise OptionError(f"{', '.join(changes)}: this model takes no options of single requests")
    if scale == "logit":
        raise OptionError("raw_scores=true: this model gives scores between 0 and 1 only")
    return [Ranked(index, scaled(logit, scale)) for index, logit in await scorer.arank(query, texts, top_n)]


async def unless_gone(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What the work gives; it is cancelled as soon as the client closes its connection.

    Raises:
        ClientGoneError: there is nobody to answer.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body is read: all that may still come is the end
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGoneError
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)
