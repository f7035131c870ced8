"""Conversion of chat turns to token ids, and of alternatives to the token ids that continue a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.models.catalogue import Model
from pyserini_reasonrank.records import Prompt

TokenIds = tuple[int, ...]
_LEAST = 1e-300  # keeps the logarithm of a vanishing probability finite


class Chat:
    """A model's tokenizer and chat template (a transformers tokenizer)."""

    def __init__(self, tokenizer: Any, model: Model) -> None:
        self._tokenizer, self._name = tokenizer, model.name
        self._arguments = dict(model.chat_template_args)
        self._bos = tokenizer.bos_token or "" if model.bos else ""
        if model.bos and not self._bos:
            raise UsageError(f"the tokenizer of {model.name} has no BOS token, which --rerank.bos true needs")

    def text(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it; the prefill follows the assistant's header as raw text.

        If the model needs a BOS token, there is exactly one: that of the chat template, or else one before it.
        """
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        head: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **self._arguments
        )
        return (head if head.startswith(self._bos) else self._bos + head) + prompt.prefill

    def tokens(self, prompt: Prompt) -> list[int]:
        """Return the token ids of the prompt."""
        return self._encode(self.text(prompt))

    def alternatives(
        self, prompt: Prompt, choices: Sequence[str], *, one_token: bool = False, apart: bool = False
    ) -> tuple[list[int], tuple[TokenIds, ...]]:
        """Return the token ids of the prompt, and those of each choice as its continuation.

        If a choice would merge with the prompt's last token, it is tokenized on its own. With ``one_token`` that raises
        UsageError unless choices are to be ``apart``, and so does a choice of several tokens.
        """
        text = self.text(prompt)
        head = self._encode(text)
        spelled = []
        for choice in choices:
            whole = self._encode(text + choice)
            if whole[: len(head)] != head and (apart or not one_token):
                whole = head + self._encode(choice)
            if one_token and not (whole[: len(head)] == head and len(whole) == len(head) + 1):
                raise UsageError(
                    f"the tokenizer of {self._name} does not write {choice!r} as one token after {text[-8:]!r}, which this "
                    f"judge needs: use a reranker that writes its answer, such as rankgpt"
                )
            spelled.append(tuple(whole[len(head) :]))
        return head, tuple(spelled)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens`` without special tokens."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def prefixes(spelled: Sequence[TokenIds]) -> list[TokenIds]:
    """Return what a model must read after the prompt to score all tokens of the alternatives; no prefix of another one.

    ``[(1,), (1, 0), (2,)]`` gives ``[(1,)]``: the probability of 0 after 1 is needed.
    """
    heads = {tokens[:-1] for tokens in spelled if len(tokens) > 1}
    return sorted(h for h in heads if not any(h != other and other[: len(h)] == h for other in heads))


def disjoint(choices: Sequence[str], spelled: Sequence[TokenIds], logprobs: Sequence[float]) -> Mapping[str, float]:
    """Return the log-probability of each choice as the whole answer.

    If "10" is tokenized as 1, 0, the probability of the token 1 includes that of "10", which is subtracted for "1".
    """
    own: dict[TokenIds, float] = {}
    for tokens, logprob in sorted(zip(spelled, logprobs, strict=True), key=lambda pair: -len(pair[0])):
        taken = sum(
            exp(p - logprob) for other, p in own.items() if len(other) > len(tokens) and other[: len(tokens)] == tokens
        )
        own[tokens] = logprob + log(max(1 - taken, _LEAST)) if taken else logprob
    return {choice: own[tokens] for choice, tokens in zip(choices, spelled, strict=True)}
