"""Rerank what Pyserini finds with a reasoning LLM: ``python -m pyserini.search ... --rerank reasonrank``."""

__version__ = "0.2.0"
