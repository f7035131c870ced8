"""The texts of documents from a Lucene index that stores them."""

from __future__ import annotations

import glob
import os

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.documents import Document, stored_document

CATALOGUES = (
    "TF_INDEX_INFO",
    "IMPACT_INDEX_INFO",
    "LUCENE_HNSW_INDEX_INFO",
    "LUCENE_FLAT_INDEX_INFO",
    "FAISS_INDEX_INFO",
)


class IndexTexts:
    """The texts by docid of an index: a Lucene folder or a prebuilt index. Dense indexes have a companion with the texts."""

    def __init__(self, index: str) -> None:
        """Open the index. A prebuilt index that is not in the cache is downloaded. UsageError if there is no such index."""
        from jnius import JavaException
        from pyserini.index.lucene import LuceneIndexReader

        self.index = index
        name = text_index(index)
        local = os.path.isdir(name)
        if local and not glob.glob(os.path.join(glob.escape(name), "segments_*")):
            raise UsageError(f"{index} is not a Lucene index, so it stores no texts; {REMEDY}")
        try:
            self._reader = LuceneIndexReader(name) if local else LuceneIndexReader.from_prebuilt_index(name)
        except JavaException as reason:
            raise UsageError(f"the index {index} can't be opened: {reason.innermessage}") from None
        if self._reader is None:
            raise UsageError(f"the prebuilt index {name!r}, which stores the texts of {index!r}, can't be downloaded")

    def __getitem__(self, docid: str) -> Document:
        """A document. UsageError if the index does not have it."""
        document = self._reader.doc(docid)
        if document is None:
            raise UsageError(f"the index {self.index} has no document {docid!r}; {REMEDY}")
        found = stored_document(document.raw(), document.contents())
        if found is None:
            raise UsageError(f"the index {self.index} stores no text of document {docid!r}; {REMEDY}")
        return found


REMEDY = "index with --storeRaw or --storeContents, or pass the texts with --rerank.corpus FILE.jsonl"


def text_index(index: str) -> str:
    """The index that stores the texts of ``index``: the companion in the catalogue, or ``index`` itself."""
    if os.path.isdir(index):
        return index
    from pyserini import prebuilt_index_info

    for catalogue in CATALOGUES:
        known = getattr(prebuilt_index_info, catalogue)
        if index in known:
            return str(known[index].get("texts", index))
    raise UsageError(f"index {index!r}: no such folder, and Pyserini has no prebuilt index of that name")
