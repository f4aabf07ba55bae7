"""`create_app`: the application, and what it answers where.

POST /rerank, /                  TEI's list, or Cohere's answer where `documents` are sent
POST /v2/rerank, /v1/rerank      Cohere's and Jina's
GET  /health, /info, /metrics    as TEI has them
GET  /v1/models                  the names that `model` may be
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware import Middleware

from bge_rerank_integrations import __version__
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Ranked
from bge_rerank_integrations.serve.answers import Answer
from bge_rerank_integrations.serve.auth import Auth
from bge_rerank_integrations.serve.limits import BodyLimit, RequestLimit, check_texts
from bge_rerank_integrations.serve.metrics import Metrics, stats_of
from bge_rerank_integrations.serve.models import Loader, Models, Served, State
from bge_rerank_integrations.serve.observed import Observed
from bge_rerank_integrations.serve.problems import add_handlers
from bge_rerank_integrations.serve.schemas import (
    AnyRequest,
    Health,
    Info,
    Problem,
    RerankAnswer,
    RerankRequest,
    TEIRequest,
    TEIResult,
)
from bge_rerank_integrations.serve.scoring import ranking, unless_gone
from bge_rerank_integrations.serve.settings import ServerSettings

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No texts, or an option that the model does not have."},
    401: {"model": Problem, "description": "The API key is missing or wrong."},
    404: {"model": Problem, "description": "The server has no model of that name."},
    413: {"model": Problem, "description": "The body is too long."},
    422: {"model": Problem, "description": "A field is unknown, missing, of another type, or too long."},
    429: {"model": Problem, "description": "Too much waits; Retry-After says when to come again."},
    500: {"model": Problem, "description": "Scoring failed."},
    503: {"model": Problem, "description": "The model is loading, or was closed."},
    504: {"model": Problem, "description": "The scores were not there in time."},
}
router = APIRouter()


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    models: Served
    settings: ServerSettings
    metrics: Metrics


def create_app(
    models: Mapping[str, ScorerProtocol | Loader] | Served, settings: ServerSettings | None = None
) -> FastAPI:
    """The application: for uvicorn, or any other server of ASGI applications.

    Args:
        models: for each name a scorer, which stays yours to close, or a function that loads one, which the application
            calls in a thread when it starts, and whose scorer it closes when it ends. The first is meant where a
            request names none. Scorers that share an engine share batches. Or an object that keeps scorers by name in
            another way: see `serve.models.Served`.
        settings: limits and key.

    Raises:
        OptionError: there is no model.
        TypeError: a model is neither a scorer nor a function.
    """
    settings = settings or ServerSettings()
    served = Models(models) if isinstance(models, Mapping) else models
    service = Service(served, settings, Metrics(served))
    app = FastAPI(
        title="bge-rerank",
        version=__version__,
        description="BGE rerankers, in the dialects of Text Embeddings Inference, Cohere and Jina.",
        lifespan=partial(_lifespan, models=served),
        middleware=[
            Middleware(Observed, metrics=service.metrics),
            Middleware(Auth, api_key=settings.api_key),
            Middleware(RequestLimit, most=settings.max_requests),
            Middleware(BodyLimit, most=settings.max_body_bytes, seconds=settings.max_body_seconds),
        ],
    )
    app.state.service = service
    app.include_router(router)
    add_handlers(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, models: Served) -> AsyncIterator[None]:
    models.start()
    try:
        yield
    finally:
        models.close()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceNow = Annotated[Service, Depends(_service)]


@router.post("/rerank", response_model=list[TEIResult] | RerankAnswer, responses=REFUSALS)
@router.post("/", response_model=list[TEIResult] | RerankAnswer, responses=REFUSALS)
async def rerank(body: AnyRequest, request: Request, service: ServiceNow) -> Response:
    """Texts by relevance, as TEI has it; with `documents` instead of `texts`, as Cohere has it."""
    if isinstance(body, RerankRequest):
        return await _rerank(body, request, service, version="2")
    async with _asked(body, "texts", request, service) as scorer:
        body.check()
        ranked = await _ranked(scorer, body, request)
    if body.return_text:
        return Answer([{"index": index, "score": score, "text": body.texts[index]} for index, score in ranked])
    return Answer([{"index": index, "score": score} for index, score in ranked])


@router.post("/v2/rerank", response_model=RerankAnswer, responses=REFUSALS)
async def rerank_v2(body: RerankRequest, request: Request, service: ServiceNow) -> Response:
    """Documents by relevance, as Cohere has it."""
    return await _rerank(body, request, service, version="2")


@router.post("/v1/rerank", response_model=RerankAnswer, responses=REFUSALS)
async def rerank_v1(body: RerankRequest, request: Request, service: ServiceNow) -> Response:
    """Documents by relevance, as Cohere's first version and Jina have it."""
    return await _rerank(body, request, service, version="1")


@router.get("/health", response_model=Health, responses={503: {"model": Health}})
async def health(service: ServiceNow) -> Response:
    """200 where every model can score, if need be after it is loaded; 503 while one is loading, or is closed."""
    states = service.models.states
    worst = max(states.values(), key=list(State).index)
    able = worst in (State.READY, State.UNLOADED)
    status = State.READY if able else worst
    answer = Health(status=status.value, models={name: state.value for name, state in states.items()})
    return Answer(answer.model_dump(), 200 if able else 503)


@router.get("/info", responses={code: REFUSALS[code] for code in (401, 404, 503)})
async def info(service: ServiceNow, model: str | None = None) -> Info:
    """What a model is, and what the server accepts."""
    async with service.models.using(model) as scorer:
        return Info(
            model_id=model or service.models.names[0],
            model_sha=None,
            model_dtype=getattr(scorer, "dtype", None),
            model_type={"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
            max_concurrent_requests=service.settings.max_requests,
            max_input_length=scorer.options.max_length,
            max_client_batch_size=service.settings.max_texts,
            auto_truncate=True,
            version=__version__,
            family=getattr(scorer, "family", None),
            cutoff_layers=list(getattr(scorer, "cutoff_layers", ())),
            models=service.models.names,
        )


@router.get("/v1/models")
async def models(service: ServiceNow) -> dict[str, Any]:
    """The names that `model` may be, the default first."""
    names = service.models.names
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "bge-rerank"} for name in names]}


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceNow) -> Response:
    """What the scorers and the server count, for Prometheus."""
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _rerank(body: RerankRequest, request: Request, service: Service, version: str) -> Response:
    async with _asked(body, "documents", request, service) as scorer:
        body.check(scorer.options.max_length)
        ranked = await _ranked(scorer, body, request, body.top_n)
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": score} for index, score in ranked]
    if body.return_documents:
        for result in results:
            document = body.documents[result["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else document.model_dump()
    meta = {"api_version": {"version": version}}
    name = body.model or service.models.names[0]
    return Answer({"id": str(uuid.uuid4()), "model": name, "results": results, "meta": meta})


@asynccontextmanager
async def _asked(
    body: TEIRequest | RerankRequest, name: str, request: Request, service: Service
) -> AsyncIterator[ScorerProtocol]:
    """The model that is asked, after a look at how much is asked of it."""
    request.state.texts = len(body.texts)  # for the access log, refused or not
    check_texts(name, body.query, body.prompt, body.texts, service.settings)
    async with service.models.using(body.model) as scorer:
        yield scorer


async def _ranked(
    scorer: ScorerProtocol, body: TEIRequest | RerankRequest, request: Request, top_n: int | None = None
) -> list[Ranked]:
    request.state.stats = partial(stats_of, scorer)
    work = ranking(
        scorer,
        body.query,
        body.texts,
        changes=body.scoring_options,
        scale="logit" if body.raw_scores else "sigmoid",
        top_n=top_n,
    )
    return await unless_gone(request, work)
