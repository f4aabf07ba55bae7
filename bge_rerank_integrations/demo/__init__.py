"""The demonstration: small English rerankers that come with the package, and a corpus that comes with every Python."""
