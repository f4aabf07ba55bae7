"""The four families over HTTP, in the dialects of TEI, Cohere and Jina: `create_app` is the application."""

from __future__ import annotations

from bge_rerank_integrations.extras import require

require("serve")

from bge_rerank_integrations.serve.app import create_app
from bge_rerank_integrations.serve.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
