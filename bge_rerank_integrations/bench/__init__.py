"""`bge-rerank bench`: this package and whatever else could do the work, timed in turn over the same pairs."""
