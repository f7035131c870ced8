"""Inference on this machine without vLLM: batched decoding and scoring on top of transformers. See README.md here."""
