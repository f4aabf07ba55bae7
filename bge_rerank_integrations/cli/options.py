"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from bge_rerank_integrations.options import API_KEY_VARIABLE

ModelOption = Annotated[
    str, typer.Option(help="Hub id, local folder, or a demonstration model: demo, demo-layerwise, demo-lightweight.")
]
DeviceOption = Annotated[str | None, typer.Option(help="Such as cpu or cuda:0; default: the first GPU, else the CPU.")]
EncodingOption = Annotated[str, typer.Option(help="Of the files, such as utf-8, utf-16 or gb18030.")]
DialectOption = Annotated[
    str | None, typer.Option(help="Where --model is the address of a server: bge-rerank, tei, vllm, infinity, ...")
]
ServedModelOption = Annotated[str | None, typer.Option(help="The model's name at the server.")]
ApiKeyOption = Annotated[str | None, typer.Option(envvar=API_KEY_VARIABLE, show_envvar=True, help="For the server.")]


def key_for(dialect: str | None, api_key: str | None) -> str | None:
    """The key for a server. A model that runs here needs none: the environment may have one that is of no concern."""
    return api_key if dialect else None
