"""`python -m bge_rerank_integrations` is `bge-rerank`."""

from bge_rerank_integrations.cli import main

main()
