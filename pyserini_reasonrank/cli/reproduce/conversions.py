"""Downloads in the form of their releases, as topics, qrels and candidates that the commands read.

python -m pyserini_reasonrank.cli.reproduce.conversions r2med FOLDER
python -m pyserini_reasonrank.cli.reproduce.conversions ranking-bench FILE TASK PREFIX
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pyserini_reasonrank.cli.exit import SUCCESS, guarded
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.ir.file_io import atomic, read_json_rows

_PASSAGES = "and candidate passages:"
_QUERY = re.compile(r"^#*\s*Here is a query:")
_PASSAGE = re.compile(r"(passage \S+?):\s*(.+)")


def r2med(folder: str) -> None:
    """Write ``topics.tsv`` and ``qrels.txt`` into a folder of ReasonRank's release of R2MED.

    It has ``test_queries.jsonl``, lines of id and contents, and ``qrels.json``, relevance by docid by qid.
    """
    home = Path(folder)
    rows = read_json_rows(home / "test_queries.jsonl", '{"id", "contents"}')
    topics = [(_field(row, "id", where), _field(row, "contents", where)) for where, row in rows]
    try:
        qrels: Mapping[str, Mapping[str, int]] = json.loads((home / "qrels.json").read_text(encoding="utf-8"))
        judged = [(qid, "0", docid, int(grade)) for qid, grades in qrels.items() for docid, grade in grades.items()]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{home / 'qrels.json'} is not a JSON mapping of qid to docid to relevance ({error})"
        ) from None
    _write(home / "topics.tsv", ("\t".join([qid, " ".join(text.split())]) for qid, text in topics))
    _write(home / "qrels.txt", ("\t".join(map(str, row)) for row in judged))


def ranking_bench(file: str, task: str, prefix: str) -> None:
    """Write ``PREFIX.jsonl`` and ``PREFIX.qrels.txt``: candidates and qrels of a passage task of R1-Ranker's Ranking-bench.

    ``file`` has a JSON line for each problem: ``task_name``, ``problem`` (the query and its passages in one text) and
    ``gt``, the relevant passage.
    """
    candidates, judged = list[str](), list[str]()
    for where, row in read_json_rows(Path(file), '{"task_name", "problem", "gt"}'):
        if _field(row, "task_name", where) != task:
            continue
        qid, answer = f"{task}-{len(candidates) + 1}", _field(row, "gt", where)
        head, found, rest = _field(row, "problem", where).partition(_PASSAGES)
        passages = [(match[1], match[2]) for match in map(_PASSAGE.match, rest.splitlines()) if match]
        if not found or answer not in dict(passages):
            raise UsageError(f"{where}: the problem does not list the passage {answer!r}")
        documents = [{"docid": docid.replace(" ", "-"), "title": docid, "text": text} for docid, text in passages]
        query = _QUERY.sub("", head.strip()).strip()
        candidates.append(json.dumps({"qid": qid, "query": query, "candidates": documents}, ensure_ascii=False))
        judged.append(f"{qid} 0 {answer.replace(' ', '-')} 1")
    if not candidates:
        raise UsageError(f"{file} has no problem of the task {task!r}")
    _write(Path(f"{prefix}.qrels.txt"), judged)
    _write(Path(f"{prefix}.jsonl"), candidates)


def _field(row: Any, name: str, where: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(name), str | int):
        raise UsageError(f"{where} has no field {name!r}")
    return str(row[name])


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)


CONVERSIONS: Mapping[str, tuple[int, Callable[..., None]]] = {"r2med": (1, r2med), "ranking-bench": (3, ranking_bench)}
"""By name: the number of arguments, and the function."""


def main(argv: list[str]) -> int:
    """Convert a download. Returns the exit status."""
    return guarded(lambda: _convert(argv))


def _convert(argv: list[str]) -> int:
    name, *arguments = argv or [""]
    count, convert = CONVERSIONS.get(name, (-1, None))
    if convert is None or len(arguments) != count:
        raise UsageError("conversions need: r2med FOLDER, or ranking-bench FILE TASK PREFIX")
    convert(*arguments)
    return SUCCESS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
