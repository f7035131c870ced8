"""Training of the router that chooses a reranker for each query."""
