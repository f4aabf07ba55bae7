"""The demonstration: a small English reranker shipped with the package, and a corpus every Python carries."""
