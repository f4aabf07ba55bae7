"""`bge-rerank`, and `python -m bge_rerank_integrations`: the command line, if its extra is installed."""

from __future__ import annotations

import sys

from bge_rerank_integrations.errors import MissingExtraError
from bge_rerank_integrations.extras import require


def main() -> None:
    """Run the command line; without its extra, say in one line what to install."""
    try:
        require("cli")
    except MissingExtraError as error:
        sys.exit(f"Error: {error}")
    from bge_rerank_integrations.cli import main as run

    run()


if __name__ == "__main__":
    main()
