"""`bge-rerank bench`: this package and other libraries that can do the same, timed in turn on the same pairs."""
