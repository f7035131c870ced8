"""Small tokenizers of the families of chat models: their control tokens, and their way of writing a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

GENERATION = "{% if add_generation_prompt %}"


@dataclass(frozen=True)
class Family:
    """``controls`` are special tokens, ``plain`` added tokens that the tokenizer does not mark as special."""

    controls: tuple[str, ...]
    template: str
    bos: str = ""
    plain: tuple[str, ...] = ()
    normalized: bool = False

    @property
    def tokens(self) -> tuple[str, ...]:
        return *self.controls, *self.plain


FAMILIES: Mapping[str, Family] = {
    "chatml": Family(
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + GENERATION
        + "<|im_start|>assistant\n{% endif %}",
        plain=("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "llama-3": Family(
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        + GENERATION
        + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        bos="<|begin_of_text|>",
    ),
    "mistral": Family(
        ("<s>", "</s>", "<unk>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]"),
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.role == 'system' %}"
        "[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        bos="<s>",
    ),
    "gemma": Family(
        ("<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}" + GENERATION + "<start_of_turn>model\n{% endif %}",
        bos="<bos>",
        plain=("<unused0>", "[multimodal]", "<b>", "</table>"),
    ),
    "gpt-oss": Family(
        ("<|startoftext|>", "<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"),
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
        + GENERATION
        + "<|start|>assistant{% endif %}",
    ),
    "deepseek": Family(
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        "<｜begin▁of▁sentence｜>{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>{% else %}{{ m.content }}"
        "{% endif %}{% endfor %}" + GENERATION + "<｜Assistant｜>{% endif %}",
        bos="<｜begin▁of▁sentence｜>",
        plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ),
    "normalizing": Family(
        ("<turn>", "</turn>"),
        "{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}</turn>{% endfor %}"
        + GENERATION
        + "<turn>assistant: {% endif %}",
        normalized=True,
    ),
}
ORDINARY = ("<b>", "</table>")
"""Added tokens that are text: a passage may contain them."""


class FamilyTokenizer:
    """What ``engines.chat.Chat`` uses of a transformers tokenizer."""

    def __init__(self, family: Family) -> None:
        from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        self.tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if family.normalized:
            invisible = normalizers.Replace("\u200b", "")
            self.tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), invisible])
        added = [AddedToken(token, special=True, normalized=family.normalized) for token in family.controls]
        self.tokenizer.add_special_tokens(added)
        self.tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.plain])
        self.bos_token = family.bos or None
        self._template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
            family.template
        )
        inert = {self.tokenizer.token_to_id(token) for token in ORDINARY}
        self.control_ids = set(self.tokenizer.get_added_tokens_decoder()) - inert

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **arguments: Any) -> str:
        return self._template.render(messages=messages, **arguments)

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def save(self, folder: Path) -> Path:
        path = folder / "tokenizer.json"
        self.tokenizer.save(str(path))
        return path
