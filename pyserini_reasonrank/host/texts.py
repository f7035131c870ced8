"""The text of a document as a Lucene index stores it: what the LLM reads."""

from __future__ import annotations

import glob
import os

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.corpus import stored_text

CATALOGUES = (
    "TF_INDEX_INFO",
    "IMPACT_INDEX_INFO",
    "LUCENE_HNSW_INDEX_INFO",
    "LUCENE_FLAT_INDEX_INFO",
    "FAISS_INDEX_INFO",
)


class IndexTexts:
    """The stored texts of an index: a Lucene folder, or a prebuilt name, dense ones through their companion index."""

    def __init__(self, index: str) -> None:
        """Open the index, downloading it first if it is a prebuilt one that is not here yet."""
        from jnius import JavaException
        from pyserini.index.lucene import LuceneIndexReader

        self.index = index
        name = text_index(index)
        local = os.path.isdir(name)
        if local and not glob.glob(os.path.join(glob.escape(name), "segments_*")):
            raise UsageError(f"{index} is no Lucene index, so it stores no texts; {REMEDY}.")
        try:
            self._reader = LuceneIndexReader(name) if local else LuceneIndexReader.from_prebuilt_index(name)
        except JavaException as reason:
            raise UsageError(f"The index {index} can't be opened: {reason.innermessage}") from None
        if self._reader is None:
            raise UsageError(f"The prebuilt index {name!r}, which stores the texts of {index!r}, can't be fetched.")

    def __getitem__(self, docid: str) -> str:
        """The text of a document. UsageError, with the remedy, if the index does not have it."""
        document = self._reader.doc(docid)
        if document is None:
            raise UsageError(f"The index {self.index} has no document {docid!r}; {REMEDY}.")
        text = stored_text(document.raw(), document.contents())
        if text is None:
            raise UsageError(f"The index {self.index} stores no text of document {docid!r}; {REMEDY}.")
        return text


REMEDY = "index with --storeRaw or --storeContents, or give the texts with --rerank.corpus FILE.jsonl"


def text_index(index: str) -> str:
    """The index that stores the texts of ``index``: the companion that the catalogue names, or the index itself."""
    if os.path.isdir(index):
        return index
    from pyserini import prebuilt_index_info

    for catalogue in CATALOGUES:
        known = getattr(prebuilt_index_info, catalogue)
        if index in known:
            return str(known[index].get("texts", index))
    raise UsageError(f"The index {index!r} is no folder here and no prebuilt index that the host knows.")
