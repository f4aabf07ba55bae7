"""`bge-rerank serve`: models over HTTP."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Annotated

import typer

from bge_rerank_integrations.cli.options import DeviceOption
from bge_rerank_integrations.options import API_KEY_VARIABLE, EngineSettings, ScoringOptions

DEFAULT = ScoringOptions()


def serve(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL...", help="Hub ids, folders or demo models; the first is the default."),
    ],
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0: everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(envvar=API_KEY_VARIABLE, help="What clients must send; better set in the environment."),
    ] = None,
    device: DeviceOption = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, float16, bfloat16, int8 or fastest.")] = "auto",
    max_length: Annotated[int, typer.Option(help="Tokens kept of query and text.")] = DEFAULT.max_length,
    query_max_length: Annotated[
        int | None, typer.Option(help="Tokens kept of the query; default: three quarters of --max-length.")
    ] = None,
    token_budget: Annotated[int | None, typer.Option(help="Tokens a batch may hold; default: as suits the device.")] = (
        None
    ),
    max_queued_tokens: Annotated[int, typer.Option(help="Tokens that may wait.")] = EngineSettings.max_queued_tokens,
    timeout: Annotated[float, typer.Option(help="Seconds until a request that waits is answered 429 or 504.")] = 30.0,
    cache_size: Annotated[int, typer.Option(help="Scores to remember.")] = EngineSettings.cache_size,
    max_requests: Annotated[int, typer.Option(help="Requests under way at a time.")] = 1_024,
    max_body_bytes: Annotated[int, typer.Option(help="Bytes of a request.")] = 10_000_000,
    max_texts: Annotated[int, typer.Option(help="Texts of a request.")] = 10_000,
    max_characters: Annotated[int, typer.Option(help="Characters of a text.")] = 200_000,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds to finish requests after SIGTERM; the rest is refused.")
    ] = 20.0,
    access_log: Annotated[bool, typer.Option(help="A line for each request, without its texts.")] = True,
) -> None:
    """Serve MODELS over HTTP, in the dialects of TEI, Cohere and Jina."""
    from bge_rerank_integrations.extras import require

    require("serve")
    from bge_rerank_integrations.loading import load_scorer
    from bge_rerank_integrations.serve import ServerSettings
    from bge_rerank_integrations.serve.run import named
    from bge_rerank_integrations.serve.run import serve as run

    settings = ServerSettings(
        api_key=api_key,
        max_requests=max_requests,
        max_body_bytes=max_body_bytes,
        max_texts=max_texts,
        max_characters=max_characters,
    )
    load = partial(
        load_scorer,
        devices=device,
        dtype=dtype,
        max_length=max_length,
        query_max_length=query_max_length,
        token_budget=token_budget,
        max_queued_tokens=max_queued_tokens,
        timeout=timeout,
        cache_size=cache_size,
    )
    _log(access_log)
    loaders = {name: partial(load, model) for name, model in named(models).items()}
    run(loaders, settings, host=host, port=port, grace=grace, say=lambda text: print(text, flush=True))


def _log(access_log: bool) -> None:
    """Lines on standard error: this package's and uvicorn's at INFO, everyone else's from WARNING on."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("bge_rerank_integrations", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
    if not access_log:
        logging.getLogger("bge_rerank_integrations.serve.observed.access").setLevel(logging.WARNING)
