"""Downloads in the form of their releases, as topics, qrels and candidates that the commands read.

python -m pyserini_reasonrank.cli.reproduce.conversions r2med FOLDER
python -m pyserini_reasonrank.cli.reproduce.conversions ranking-bench FILE TASK PREFIX
"""

from __future__ import annotations

import ast
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
    """Write ``PREFIX.jsonl`` and ``PREFIX.qrels.txt``: candidates and qrels of one of the nine tasks of Ranking-bench.

    ``file`` has a JSON line for each problem of R1-Ranker's release: ``task_name``, ``problem`` (the question in one text)
    and ``gt``, the relevant candidate. The candidates of a passage task are in the problem, those of the tasks of items and
    of models are the names in ``candidates``.
    """
    candidates, judged = list[str](), list[str]()
    for where, row in read_json_rows(Path(file), '{"task_name", "problem", "gt"}'):
        if _field(row, "task_name", where) != task:
            continue
        qid, answer, problem = f"{task}-{len(candidates) + 1}", _field(row, "gt", where), _field(row, "problem", where)
        query, named = _passages(problem) if _PASSAGES in problem else (problem.strip(), _named(row, where))
        if answer not in named:
            raise UsageError(f"{where}: the problem does not list the candidate {answer!r}")
        docids = {name: re.sub(r"\s+", "-", name) for name in named}
        if len(set(docids.values())) < len(docids):
            raise UsageError(f"{where}: two candidates have names that differ in white space alone")
        documents = [{"docid": docids[name], "title": name, "text": text} for name, text in named.items()]
        candidates.append(json.dumps({"qid": qid, "query": query, "candidates": documents}, ensure_ascii=False))
        judged.append(f"{qid} 0 {docids[answer]} 1")
    if not candidates:
        raise UsageError(f"{file} has no problem of the task {task!r}")
    _write(Path(f"{prefix}.qrels.txt"), judged)
    _write(Path(f"{prefix}.jsonl"), candidates)


def _passages(problem: str) -> tuple[str, dict[str, str]]:
    """The query of a passage task, and its passages by name."""
    head, _, rest = problem.partition(_PASSAGES)
    passages = {match[1]: match[2] for match in map(_PASSAGE.match, rest.splitlines()) if match}
    return _QUERY.sub("", head.strip()).strip(), passages


def _named(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """The candidates of a problem, by name, without texts. UsageError if they are not a list of different names."""
    names = row.get("candidates")
    if isinstance(names, str):
        try:
            names = ast.literal_eval(names)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.strip() for n in names):
        raise UsageError(f"{where}: the field 'candidates' is not a list of names")
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: the field 'candidates' has a name twice")
    return dict.fromkeys(names, "")


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
