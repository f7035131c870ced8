"""The Python API: rerank documents and rewrite queries, with all settings of the command line.

The command line's searches, the server and the integrations use the same parts.
"""

from __future__ import annotations

from pyserini_reasonrank.api.documents import Documents as Documents
from pyserini_reasonrank.api.reranker import Reranker as Reranker
from pyserini_reasonrank.api.rewriter import Rewriter as Rewriter
