"""The rerank server: REST in the dialects of vLLM, Cohere, Jina and TEI, over the Python API."""
