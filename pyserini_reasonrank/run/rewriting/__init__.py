"""Rewriting queries with an LLM before the search: plan, rounds, texts to search, record."""
