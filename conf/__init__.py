"""Rerankers, prompts and checkpoints as data; installed as ``pyserini_reasonrank.conf``."""
