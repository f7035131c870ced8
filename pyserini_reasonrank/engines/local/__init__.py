"""Inference on this machine without vLLM: batched decoding and scoring over transformers."""
