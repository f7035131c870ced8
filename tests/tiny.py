"""Tiny models with random weights, their tokenizer, and rows to train them on: whole training runs in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pyserini_reasonrank.prompts.template import Template
from pyserini_reasonrank.records import Message
from pyserini_reasonrank.train.data.rows import Row, write_rows

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BEST = Template.parse(
    "tiny-best",
    {
        "about": "Name the best.",
        "contract": "best",
        "messages": [
            {
                "role": "user",
                "content": "{{ query }}:{% for number, passage in numbered %} [{{ number }}] {{ passage }}{% endfor %}",
            }
        ],
        "reminder": "A label.",
    },
)
WORDS = ["apple", "bear", "cloud", "drum", "eagle", "flute", "grape", "house", "igloo", "gem"]


def tiny_model(
    folder: Path,
    *,
    kind: str = "llama",
    layers: int = 2,
    hidden: int = 64,
    context: int = 512,
    seed: int = 0,
    more: Iterable[str] = (),
) -> Path:
    """Save a model that knows the words of :func:`best_rows`, perhaps ``more``, and nothing else. Deterministic.

    ``kind`` is its architecture as transformers names it, such as ``qwen3``; ``context`` is in tokens.
    """
    torch = pytest.importorskip("torch", reason="a tiny model needs torch")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    specials = ["<|im_start|>", "<|im_end|>", "<|pad|>", "<unk>"]
    pieces = [
        *"[]>:.,\n",
        " ",
        *"0123456789",
        "user",
        "assistant",
        "system",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        *WORDS,
        *more,
    ]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*specials, *pieces])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?(?:think|answer)>|[a-z]+|\s|\d|[^\sa-z\d]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>", unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"], chat_template=CHATML, model_max_length=context,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind, vocab_size=len(fast), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, head_dim=hidden // 4, max_position_embeddings=context,
        eos_token_id=fast.eos_token_id, bos_token_id=None, pad_token_id=fast.pad_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def best_rows(count: int, passages: int = 3, *, seed: int = 0, **changes: Any) -> list[Row]:
    """Rows of kind ``best``: the passage with the gem is the one; its label is the answer to imitate."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        words = chance.sample(WORDS[:-1], passages)
        place = chance.randrange(passages)
        words[place] = WORDS[-1]
        prompt = BEST.render("gem", words)
        row: dict[str, Any] = {
            "qid": f"q{number}",
            "kind": "best",
            "tags": False,
            "docids": [f"d{word}" for word in words],
            "gains": [float(i == place) for i in range(passages)],
            "prompt": prompt.messages,
            "first_stage": list(range(1, passages + 1)),
            "source": "tiny",
            "query": "gem",
            "completion": [Message("assistant", f"[{place + 1}]")],
        }
        rows.append(Row.model_validate(row | changes))
    return rows


def rows_file(path: Path, rows: list[Row]) -> Path:
    write_rows(path, rows)
    return path


def tiny_dev(folder: Path, **changes: Any) -> dict[str, Any]:
    """Settings of two development topics, their files written to ``folder``."""
    (folder / "topics.tsv").write_text("t1\tgem apple\nt2\tgem bear\n")
    (folder / "run.txt").write_text("t1 Q0 a 1 2 x\nt1 Q0 g 2 1 x\nt2 Q0 b 1 2 x\nt2 Q0 g 2 1 x\n")
    texts = {"a": "apple", "b": "bear", "g": "gem"}
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"id": k, "contents": v}) + "\n" for k, v in texts.items()))
    (folder / "qrels.txt").write_text("t1 0 g 1\nt2 0 g 1\nt9 0 g 1\n")
    given = {
        name.partition(".")[0]: str(folder / name) for name in ("topics.tsv", "run.txt", "corpus.jsonl", "qrels.txt")
    }
    settings = {"sampling": {"max_tokens": 4}, "judge": {"kind": "best", "tags": False, "repair": "none"}}
    return {"reranker": "setwise", "settings": settings, **given, **changes}
