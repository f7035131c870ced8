"""Reader of ReasonRank's released lists with reasoning (arXiv 2508.07050, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pyserini_reasonrank.records import Candidate, Query
from pyserini_reasonrank.train.data.lists import LabelledList
from pyserini_reasonrank.train.data.release import Release, read_records
from pyserini_reasonrank.train.data.rows import Audit


def reasonrank(release: Release, audit: Audit) -> Iterator[LabelledList]:
    """The lists of ``training_data_all.jsonl``: dataset, qid, initial_list, final_list, reasoning, relevant_docids.

    ``topics`` and ``corpus`` are the release's folders ``id_query`` and ``id_doc`` (one JSON mapping for each data set)
    or single files. A record's own ``query`` has precedence. The list keeps the order of ``initial_list``, which the
    reasoning numbers.
    """
    for where, record in read_records(release.path, audit):
        try:
            dataset, qid = str(record.get("dataset") or release.source), str(record["qid"])
            shown, gold = [str(d) for d in record["initial_list"]], [str(d) for d in record["final_list"]]
            relevant = {str(d) for d in record["relevant_docids"]}
            reasoning = str(record.get("reasoning") or "")
        except (KeyError, TypeError):
            audit.note("not a ReasonRank record", where)
            continue
        query = record.get("query") or release.query(dataset, qid)
        texts = [release.document(dataset, docid) for docid in shown]
        found = [text for text in texts if text]
        faults = {
            "the query has no text": not query,
            "a passage has no text": len(found) < len(texts),
            "the final list has other passages than the initial list": sorted(gold) != sorted(shown),
            "a relevant passage is not in the list": not relevant <= set(shown),
            "the same text is both relevant and not relevant": _contradicts(found, [d in relevant for d in shown]),
        }
        if not audit.note(next((fault for fault, there in faults.items() if there), None), f"{where} (qid {qid})"):
            continue
        yield LabelledList(
            Query(qid, str(query)),
            tuple(Candidate(d, -float(i), text) for i, (d, text) in enumerate(zip(shown, found, strict=True))),
            tuple(float(d in relevant) for d in shown),
            tuple(range(1, len(shown) + 1)),
            dataset,
            gold=tuple(gold),
            reasoning=reasoning,
        )


def _contradicts(texts: Sequence[str], relevant: Iterable[bool]) -> bool:
    labels: dict[str, set[bool]] = {}
    for text, label in zip(texts, relevant, strict=False):
        labels.setdefault(" ".join(text.split()), set()).add(label)
    return any(len(found) > 1 for found in labels.values())
