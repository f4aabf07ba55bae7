"""The demonstration: small English rerankers shipped with the package, and a corpus every Python carries."""
