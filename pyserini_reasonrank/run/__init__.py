"""One run: plan it, build its parts, check them, rerank, report progress."""
