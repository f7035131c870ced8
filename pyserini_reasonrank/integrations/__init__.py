"""Rerankers as components of other libraries: PyTerrier, MTEB, LangChain, LlamaIndex. Each module needs its library."""
