"""Listwise distillation of the embedded ranker."""
