"""Listwise distillation of the embedded ranker from labels and a sentence encoder."""
