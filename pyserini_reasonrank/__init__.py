"""Rerank what Pyserini finds with a reasoning LLM: ``python -m pyserini.search ... --rerank reasonrank``.

In Python: ``Reranker("reasonrank").rank(query, documents)``, and ``Rewriter("keywords").rewrite(query)`` before a search.
"""

TYPE_CHECKING = False  # every Python of the environment imports this file: typing would take a millisecond or more
if TYPE_CHECKING:
    from typing import Any

    from pyserini_reasonrank.api import Reranker as Reranker
    from pyserini_reasonrank.api import Rewriter as Rewriter
    from pyserini_reasonrank.errors import Failure as Failure
    from pyserini_reasonrank.errors import UsageError as UsageError
    from pyserini_reasonrank.results import RankedDocument as RankedDocument
    from pyserini_reasonrank.results import RankedDocuments as RankedDocuments
    from pyserini_reasonrank.results import RewrittenQuery as RewrittenQuery

__version__ = "0.2.0"

_LAZY = {
    "Reranker": "api",
    "Rewriter": "api",
    "RankedDocument": "results",
    "RankedDocuments": "results",
    "RewrittenQuery": "results",
    "Failure": "errors",
    "UsageError": "errors",
}
__all__ = [
    "Failure",
    "RankedDocument",
    "RankedDocuments",
    "Reranker",
    "Rewriter",
    "RewrittenQuery",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
