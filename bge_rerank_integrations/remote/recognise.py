"""What kind of server answers, as it tells itself: asked only when it did not answer as its dialect says."""

from __future__ import annotations

from typing import Any

from bge_rerank_integrations.remote.dialects import DIALECTS
from bge_rerank_integrations.remote.transport import Transport


async def recognise(server: Transport) -> str | None:
    """The name of its dialect; None: it does not tell."""
    for path in ("/v1/models", "/models"):
        if (owner := _owner(await server.get(path))) in DIALECTS:
            return owner
    info = await server.get("/info")
    return "tei" if isinstance(info, dict) and "max_client_batch_size" in info else None


def _owner(listed: Any) -> str | None:
    """vLLM, SGLang, llama.cpp, Infinity, Xinference and `bge-rerank serve` sign the list of their models."""
    models = listed.get("data") if isinstance(listed, dict) else None
    first = models[0] if isinstance(models, list) and models else None
    owner = first.get("owned_by") if isinstance(first, dict) else None
    return owner if isinstance(owner, str) else None
