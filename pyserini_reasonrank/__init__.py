"""Rerank what Pyserini finds with a reasoning LLM: ``python -m pyserini.search ... --rerank reasonrank``."""

__version__ = "0.1.0"
