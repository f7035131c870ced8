"""Prompt files of publishers: their formats, by path, by pinned URL, by short name; and what happens without a network.

The files are written here, in words of our own; the published ones are never part of the project.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.prompts import sources
from pyserini_reasonrank.prompts.pinned import PinnedFile

SETWISE = '''
prompt_system = "Use {braces} freely. Tag the <answer>."

prompt_user = """For "{query}", which is best?
{docs}
Say one of [1], [2], ... {{as is}}."""

pattern = '<answer>(.*?)</answer>'
'''
NUMBERED = 'doc_separator = "\\n\\n"\n\ndoc_prefix = "[{num}]: "\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REASONRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


def written(tmp_path: Path, text: str, name: str = "mine.toml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def turns(source: str, query: str = "Q?", passages: tuple[str, ...] = ("FIRST", "SECOND")) -> dict[str, str]:
    return {message.role: message.content for message in sources.load(source).render(query, passages).messages}


# --- the TOML of llm-rankers


def test_a_prompt_of_llm_rankers_by_path(tmp_path: Path) -> None:
    source = written(tmp_path, SETWISE)
    template = sources.load(source)
    assert template.contract == "best"
    assert turns(source) == {
        "system": "Use {braces} freely. Tag the <answer>.",
        "user": 'For "Q?", which is best?\n[1] FIRST\n[2] SECOND\nSay one of [1], [2], ... {as is}.',
    }
    assert "<answer>" in template.reminder


def test_how_documents_are_lined_up_is_the_files_to_say(tmp_path: Path) -> None:
    assert "best?\n[1]: FIRST\n\n[2]: SECOND\nSay" in turns(written(tmp_path, SETWISE + NUMBERED))["user"]


def test_a_query_or_passage_with_braces_stays_as_it_is(tmp_path: Path) -> None:
    user = turns(written(tmp_path, SETWISE), "{docs} {{ x }}", ("{query}", "{% raw %}"))["user"]
    assert 'For "{docs} {{ x }}"' in user
    assert "[1] {query}\n[2] {% raw %}\n" in user


def test_a_prompt_that_states_the_number_of_documents_asks_for_their_order(tmp_path: Path) -> None:
    source = written(tmp_path, 'prompt_user = "{num} passages for {query}:\\n{docs}\\nOrder all {num}."')
    assert sources.load(source).contract == "permutation"
    assert turns(source) == {"user": "2 passages for Q?:\n[1] FIRST\n[2] SECOND\nOrder all 2."}


def test_the_newer_names_of_the_keys(tmp_path: Path) -> None:
    newer = 'system = "S"\nuser = "{query}\\n{docs}"\ndoc_prefix = "{label} "\nlabels = ["[1]", "[2]"]\n'
    assert turns(written(tmp_path, newer)) == {"system": "S", "user": "Q?\n[1] FIRST\n[2] SECOND"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt_user = 'no documents for {query}'", "without {docs}, so it does not show"),
        (
            "prompt_user = '{query} {docs} {model}'",
            "uses the unknown field {model}; known: query, num, docs",
        ),
        ("prompt_user = '{query} {docs} {'", "can't be read as a format string"),
        ("prompt_user = '{docs}'", "it does not show the query"),
        (
            "user = '{query} {docs}'\nlabels = ['A', 'B']",
            "labels its documents A, ...; only [1], [2], ... is supported",
        ),
        ("prompt_user = '{query} {docs}'\ndoc_prefix = '{letter} '", "uses the unknown field {letter}"),
        ("prompt_user = ", "is not TOML: Invalid value (at "),
        ("title = 'nothing of a prompt'", "about: field required"),
    ],
)
def test_a_toml_that_is_no_prompt_is_refused_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        sources.load(written(tmp_path, text))
    assert says in str(error.value)
    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"mine\.toml is not UTF-8 text"):
        sources.load(str(tmp_path / "mine.toml"))


# --- the TOML of ReasonRank

REASONRANK = 'system_prompt = "Be {brief}."\nsystem_prompt_reasoning = "Think, then rank."\n'


def test_reasonranks_system_message_goes_over_its_authors_user_turn(tmp_path: Path) -> None:
    source = written(tmp_path, REASONRANK)
    assert sources.load(source).contract == "permutation"
    assert turns(source)["system"] == "Think, then rank."
    assert turns(source)["user"] == turns("reasonrank:reasoning")["user"]


def test_its_layout_has_a_blank_line_that_rank_llms_has_not() -> None:
    ours, theirs = turns("reasonrank:reasoning"), turns("rank_llm:reasonrank_template")
    assert ours["system"] == theirs["system"]
    assert "\n\n[1] FIRST\n[2] SECOND\n" in ours["user"]
    assert ours["user"].replace("\n\n[1]", "\n[1]") == theirs["user"]


def test_its_qwen3_mode(tmp_path: Path) -> None:
    source = written(tmp_path, REASONRANK + 'mode = "qwen3"\n')
    assert turns(source)["system"] == "Be {brief}."
    user = turns("reasonrank:reasoning")["user"]
    assert turns(source)["user"].startswith(user)
    assert "<answer>" in turns(source)["user"].removeprefix(user)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (REASONRANK + "mode = 'llama'", "has mode 'llama'; the modes of ReasonRank are reasoning and qwen3"),
        ("system_prompt = 'only the short one'", "without system_prompt_reasoning"),
    ],
)
def test_a_reasonrank_file_with_something_missing(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        sources.load(written(tmp_path, text))


# --- RankLLM's other templates


def test_letters_are_for_the_judge_that_reads_the_first_one() -> None:
    template = sources.load("rank_llm:rank_zephyr_alpha_template")
    assert template.contract == "first_token"
    assert template.render("Q?", ["FIRST", "SECOND"]).prefill == "["
    assert "\n[A] FIRST\n[B] SECOND\n" in turns("rank_llm:rank_zephyr_alpha_template")["user"]
    assert sources.load("rank_llm:rank_zephyr_template").contract == "permutation"


def test_a_template_that_asks_for_what_we_do_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=re.escape("uses the unknown field {psg_ids}")):
        sources.load("rank_llm:rank_lrl_template")


@pytest.mark.parametrize("source", ["rank_llm:insert_rank_template", "listwise-scores"])
def test_a_prompt_shows_the_first_stages_scores(source: str) -> None:
    prompt = sources.load(source).render("Q?", ["FIRST", "SECOND"], scores=[12.34567, 7])
    user = prompt.messages[-1].content
    assert re.search(r"\[1\] FIRST\n[^\n]*12\.346\n+\[2\] SECOND\n[^\n]*7\.000\n", user)


# --- by pinned URL


def pinned(server: HTTPServer, text: str, path: str = "/prompts/mine.toml") -> str:
    server.expect_request(path).respond_with_data(text)
    return f"{server.url_for(path)}#sha256={hashlib.sha256(text.encode()).hexdigest()}"


def test_a_pinned_file_is_fetched_once(httpserver: HTTPServer, cache: Path) -> None:
    source = pinned(httpserver, SETWISE)
    assert sources.available(source)
    assert turns(source)["user"].startswith('For "Q?"')
    assert len(httpserver.log) == 1
    assert [file.read_text() for file in (cache / "prompts").iterdir()] == [SETWISE]


def test_upper_case_digits_pin_the_same_file(httpserver: HTTPServer) -> None:
    url, _, digits = pinned(httpserver, SETWISE).partition("#sha256=")
    assert PinnedFile.parse(f"{url}#sha256={digits.upper()}") == PinnedFile.parse(f"{url}#sha256={digits}")


def test_yaml_by_url_too(httpserver: HTTPServer) -> None:
    text = textwrap.dedent("""\
        about: a test
        contract: permutation
        reminder: Once more.
        messages: [{role: user, content: "{{ query }} {{ passages[0] }} {{ passages[1] }}"}]
        """)
    assert turns(pinned(httpserver, text, "/mine.yaml")) == {"user": "Q? FIRST SECOND"}


def test_many_who_fetch_at_once_all_get_it_whole(httpserver: HTTPServer, cache: Path) -> None:
    source = pinned(httpserver, SETWISE)
    with ThreadPoolExecutor(8) as pool:
        files = set(pool.map(lambda _: PinnedFile.parse(source).fetch(), range(16)))
    assert [file.read_text() for file in files] == [SETWISE]
    assert list((cache / "prompts").iterdir()) == list(files)


def test_another_content_than_the_pinned_one_is_refused_and_not_kept(httpserver: HTTPServer, cache: Path) -> None:
    source = pinned(httpserver, SETWISE)
    httpserver.clear()
    httpserver.expect_request("/prompts/mine.toml").respond_with_data(SETWISE + "# changed")
    with pytest.raises(UsageError, match=r"is not the pinned prompt file \(sha256 \w{64}, expected \w{64}\)"):
        sources.load(source)
    assert not cache.exists()
    assert not sources.available(source)


def test_a_cached_file_that_was_changed_is_refused(httpserver: HTTPServer) -> None:
    source = pinned(httpserver, SETWISE)
    sources.load(source)
    PinnedFile.parse(source).path.write_text("prompt_user = 'ignore the above'")
    with pytest.raises(UsageError, match=r"mine\.toml is not the pinned prompt file .*: delete it"):
        sources.load(source)


def test_a_page_that_is_no_prompt_file(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyserini_reasonrank.prompts.pinned.MOST_BYTES", 100)
    with pytest.raises(UsageError, match="is larger than 100 bytes"):
        sources.load(pinned(httpserver, SETWISE))


@pytest.mark.parametrize("fragment", ["", "#sha256=", "#sha256=12ab", f"#sha1={'0' * 64}", f"#sha256={'g' * 64}"])
def test_a_url_that_pins_nothing_is_refused(fragment: str) -> None:
    with pytest.raises(UsageError, match="is not pinned: add #sha256="):
        sources.load(f"https://example.invalid/mine.toml{fragment}")


# --- without a network


def unanswered(server: HTTPServer) -> str:
    server.expect_request("/gone.toml").respond_with_data("gone", status=404)
    return f"{server.url_for('/gone.toml')}#sha256={hashlib.sha256(SETWISE.encode()).hexdigest()}"


def test_without_a_network_the_error_says_where_the_file_can_be_put(httpserver: HTTPServer) -> None:
    source = unanswered(httpserver)
    url, file = source.partition("#")[0], PinnedFile.parse(source).path
    with pytest.raises(UsageError) as error:
        sources.load(source)
    assert str(error.value) == (
        f"prompt {url} can't be downloaded (NOT FOUND): put the file at {file} by hand, "
        "or name another prompt with --rerank.prompt"
    )
    assert not sources.available(source)
    file.parent.mkdir(parents=True)
    file.write_text(SETWISE)
    assert sources.available(source)
    assert sources.load(source).contract == "best"


def test_no_server_at_all() -> None:
    source = f"http://127.0.0.1:9/mine.toml#sha256={'0' * 64}"
    assert "Connection refused" in str(sources.missing(source))


def test_offline_means_that_nothing_is_asked(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pinned(httpserver, SETWISE)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in str(sources.missing(source))
    assert not httpserver.log


def test_a_cache_that_cannot_be_written(httpserver: HTTPServer, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=r"can't be saved to .* set REASONRANK_CACHE to another folder"):
        sources.load(pinned(httpserver, SETWISE))


# --- short names


def test_short_names_are_pinned() -> None:
    for name, known in sources.published().items():
        assert not name.endswith((".toml", ".yaml"))
        assert name not in sources.names()
        assert known.origin.startswith("rank_llm:") or PinnedFile.parse(known.origin).url.startswith("https://")


PREFIXED = 'doc_prefix = "[{num}]: "\n'


@pytest.mark.parametrize(
    ("name", "layout", "shown"),
    [
        ("llm_rankers:setwise-r1", PREFIXED, "[1] FIRST\n[2] SECOND\n"),  # as in training, not as the file says
        ("llm_rankers:setwise-r1-v0.2", NUMBERED, "[1]: FIRST\n\n[2]: SECOND\n"),
        ("llm_rankers:setwise", "", "[1] FIRST\n[2] SECOND\n"),
    ],
)
def test_rank_r1s_files_by_name(name: str, layout: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SETWISE + layout
    stand_in = PinnedFile("https://example.invalid/mine.toml", hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(PinnedFile, "parse", classmethod(lambda cls, source: stand_in))
    stand_in.path.parent.mkdir(parents=True)
    stand_in.path.write_text(text)
    template = sources.load(name)
    assert (template.name, template.contract) == (name, "best")
    assert template.spec.about == sources.published()[name].about
    assert shown in turns(name)["user"]


def test_a_mistyped_short_name_is_corrected() -> None:
    with pytest.raises(UsageError, match="did you mean 'llm_rankers:setwise-r1'"):
        sources.load("llm_rankers:setwise_r1")


def test_what_is_here_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.available("listwise")
    assert sources.available("rank_llm:reasonrank_template")
    assert sources.available("reasonrank:reasoning")
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    assert sources.available("listwise")
    assert not sources.available("rank_llm:reasonrank_template")
    assert "pip install rank-llm" in str(sources.missing("reasonrank:reasoning"))
