"""GRPO from scratch: a language model learns from rewards to answer with a ranking, in one file on a CPU.

    python docs/course/grpo_from_scratch.py

The model is shown a query and three passages and is to answer with an order of them, such as "[2] > [3] > [1]".
SmolLM2-135M does so in about a quarter of its answers. No right answers are given: the model writes several answers
(rollout), each answer gets a number (reward), and answers above the average of their group become more likely (update).

Read this file from top to bottom. The numbers in brackets are

    [GRPO] DeepSeekMath, arXiv 2402.03300, section 4.1: the objective, the advantage, the whole algorithm
    [PPO]  Proximal Policy Optimization, arXiv 1707.06347, section 3: the clipped objective
    [KL]   Schulman, "Approximating KL Divergence" (2020), http://joschu.net/blog/kl-approx.html: the estimator k3

What a large training adds is in `pyserini_reasonrank/train/trainers/grpo.py`, over TRL: several GPUs, adapters,
checkpoints, rewards for ranking quality.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from pyserini_reasonrank.models.embedded import ensure_embedded

# --- 1. Settings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The settings of a training. The symbols are those of [GRPO], algorithm 1."""

    steps: int = 16  # M: batches of questions, one question each
    group: int = 8  # G: answers to a question
    updates: int = 2  # mu: updates on the same answers
    clip: float = 0.2  # epsilon: how far an update may move the probability of a token
    kl_weight: float = 0.04  # beta: how strongly the policy is held near the model it started from
    learning_rate: float = 3e-5
    first_layer: int = 20  # the layers below are not trained, which saves time
    max_tokens: int = 14  # of an answer; "[2] > [3] > [1]" and the end of the turn are 12
    seed: int = 1


# --- 2. The task: order three passages --------------------------------------------------------------------------------

TASKS = {  # query: the passage that answers it
    "duplicate a list": "copy: shallow copy of an object",
    "wait five seconds": "sleep: pause the thread",
    "largest of several numbers": "max: biggest item",
    "split a path": "basename: last part of a file name",
    "throw a die": "randint: random integer",
    "sort while inserting": "bisect: keep a list in order",
    "queue with two ends": "deque: append on both sides",
    "join words with commas": "join: concatenate strings",
    "count equal items": "Counter: tally of elements",
    "read a config file": "configparser: INI files",
    "is the text a number": "isdigit: only digits",
    "run another program": "subprocess: start a process",
}
SYSTEM = "Order the passages, best first."
EXAMPLE = ("eat\n[1] stone\n[2] bread\n[3] cup", "[2] > [3] > [1]")
BEGIN = "["  # the answer is begun for the model
PASSAGES = 3


@dataclass(frozen=True)
class Question:
    """A query with its passages in the order shown. ``relevant`` is the number of the right one, from 1."""

    query: str
    passages: tuple[str, ...]
    relevant: int


def draw_question(rng: random.Random) -> Question:
    """Draw a query, its passage and two others, in random order, so that no position is right more often."""
    query = rng.choice(sorted(TASKS))
    others = rng.sample(sorted(set(TASKS.values()) - {TASKS[query]}), PASSAGES - 1)
    passages = rng.sample([TASKS[query], *others], PASSAGES)
    return Question(query, tuple(passages), passages.index(TASKS[query]) + 1)


def prompt_of(question: Question, tokenizer: Any) -> str:
    """The chat prompt: an example, the question, and the beginning of the answer."""
    shown = "\n".join(f"[{number}] {passage}" for number, passage in enumerate(question.passages, 1))
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": EXAMPLE[0]},
        {"role": "assistant", "content": EXAMPLE[1]},
        {"role": "user", "content": f"{question.query}\n{shown}"},
    ]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text + BEGIN


# --- 3. Rollout: the policy writes a group of answers -----------------------------------------------------------------


@dataclass(frozen=True)
class Rollout:
    """A group of answers to one question.

    ``tokens`` has the shape (answers, prompt + answer tokens). ``mask`` has the shape (answers, answer tokens): it is 1
    up to the token that ends the turn, and 0 after it.
    """

    tokens: Tensor
    mask: Tensor
    texts: list[str]


def rollout(model: Any, tokenizer: Any, prompt: str, settings: Settings) -> Rollout:
    """Sample ``settings.group`` answers from the policy itself: temperature 1, all tokens possible."""
    shown = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    copies = shown.repeat(settings.group, 1)
    with torch.no_grad():
        tokens: Tensor = model.generate(
            copies,
            attention_mask=torch.ones_like(copies),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=settings.max_tokens,
            pad_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    answers = tokens[:, shown.shape[1] :]
    ended = (answers == tokenizer.eos_token_id).long().cumsum(dim=1)
    mask = ((ended == 0) | ((ended == 1) & (answers == tokenizer.eos_token_id))).float()
    texts = [BEGIN + text for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]
    return Rollout(tokens, mask, texts)


# --- 4. Reward: a number for each answer ------------------------------------------------------------------------------


def reward(answer: str, question: Question) -> float:
    """The reward of an answer, from 0 to 1. A rule computes it; no model is needed.

    - 0.25 times the share of passages that the answer names. This tells two malformed answers apart: without it, all
      rewards of a group are often 0, and equal rewards teach nothing.
    - 0.5 if the answer is an order in the form asked for, with every passage once and nothing else.
    - 0.25 divided by the rank of the relevant passage, in such an order. Without this part, an answer that repeats the
      order shown would be as good as any other.
    """
    named = [int(digits) for digits in re.findall(r"\[(\d+)\]", answer)]
    wanted = set(range(1, len(question.passages) + 1))
    covered = len(wanted & set(named)) / len(wanted)
    in_form = re.fullmatch(r"\[\d+\](?: > \[\d+\])*", answer.strip()) is not None
    if not in_form or sorted(named) != sorted(wanted):
        return 0.25 * covered
    return 0.25 + 0.5 + 0.25 / (named.index(question.relevant) + 1)


# --- 5. Advantage: compare each answer with its group -----------------------------------------------------------------


def advantages(rewards: Tensor) -> Tensor:
    """The advantage of each answer of a group; input and output have the shape (answers,).

    [GRPO], section 4.1.2: A_i = (r_i - mean(r)) / std(r). All tokens of an answer have the advantage of the answer.
    The mean of the group takes the place of PPO's value model, which is a second network. The small number keeps a
    group with equal rewards from dividing by 0.
    """
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


# --- 6. Loss: make better answers more likely, in small steps ---------------------------------------------------------


def token_log_probabilities(model: Any, tokens: Tensor, answer_tokens: int) -> Tensor:
    """log pi(token | tokens before it) of the last ``answer_tokens`` tokens, of shape (answers, answer tokens)."""
    logits = model(tokens, logits_to_keep=answer_tokens + 1).logits[:, :-1]  # the logits at t predict token t + 1
    said = tokens[:, -answer_tokens:, None]
    result: Tensor = logits.log_softmax(dim=-1).gather(-1, said).squeeze(-1)
    return result


def grpo_loss(
    new: Tensor, old: Tensor, reference: Tensor, advantage: Tensor, mask: Tensor, *, clip: float, kl_weight: float
) -> Tensor:
    """The negative of the objective of [GRPO], section 4.1.1, equation 3.

    ``new``, ``old`` and ``reference`` are log-probabilities of the same tokens by the policy being trained, the policy
    that wrote the answers, and the model at the start: shape (answers, answer tokens), like ``mask``. ``advantage``
    has the shape (answers,). Only ``new`` has a gradient.
    """
    # How much more likely the token is now than when it was written ([PPO], equation 6).
    ratio = (new - old).exp()
    # [PPO], equation 7. The minimum removes the gain from moving the ratio further than `clip` in the good direction;
    # moves in the bad direction are always counted.
    gain = advantage[:, None]
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    # [GRPO], equation 4, and [KL], k3: an estimate of KL(new || reference) that is never negative.
    log_ratio = reference - new
    divergence = log_ratio.exp() - log_ratio - 1
    # Equation 3: the mean over the tokens of an answer (1 / |o_i|), then over the answers of the group (1 / G).
    objective = surrogate - kl_weight * divergence
    per_answer = (objective * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return -per_answer.mean()


# --- 7. Training: [GRPO], algorithm 1, with one outer iteration -------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What a training step measured: mean reward of the group, share of well-formed answers, loss, an example."""

    reward: float
    well_formed: float
    loss: float
    example: str


def train(model: Any, tokenizer: Any, settings: Settings, *, show: bool = True) -> list[Step]:
    """Train ``model`` in place and return the measurements of every step."""
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    model.eval()  # no dropout: the probabilities of an answer must not change between rollout and update
    reference = copy.deepcopy(model).requires_grad_(False)
    model.requires_grad_(False)
    for layer in model.model.layers[settings.first_layer :]:
        layer.requires_grad_(True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)

    steps = []
    for number in range(1, settings.steps + 1):
        began = time.monotonic()
        question = draw_question(rng)
        group = rollout(model, tokenizer, prompt_of(question, tokenizer), settings)
        rewards = torch.tensor([reward(text, question) for text in group.texts])
        loss = update(model, reference, optimizer, trained, group, advantages(rewards), settings)
        best = group.texts[int(rewards.argmax())]
        well = float((rewards > 0.5).float().mean())
        steps.append(Step(float(rewards.mean()), well, loss, best))
        if show:
            print(
                f"step {number:2}  reward {rewards.mean():.2f}  well-formed {well:.0%}  loss {loss:+.3f}  "
                f"{time.monotonic() - began:4.1f} s  {best!r}",
                flush=True,
            )
    return steps


def update(
    model: Any,
    reference: Any,
    optimizer: Any,
    trained: list[Any],
    group: Rollout,
    advantage: Tensor,
    settings: Settings,
) -> float:
    """Make ``settings.updates`` gradient steps on one group and return the loss of the last one."""
    length = group.mask.shape[1]
    with torch.no_grad():
        at_start = token_log_probabilities(reference, group.tokens, length)
    old: Tensor | None = None
    value = 0.0
    for _ in range(settings.updates):
        new = token_log_probabilities(model, group.tokens, length)
        old = new.detach() if old is None else old  # before the first update, the policy is the one that wrote them
        loss = grpo_loss(new, old, at_start, advantage, group.mask, clip=settings.clip, kl_weight=settings.kl_weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        value = float(loss.detach())
    return value


# --- 8. The command ---------------------------------------------------------------------------------------------------


def load(folder: str | None) -> tuple[Any, Any]:
    """Model and tokenizer: those of ``folder``, or the embedded SmolLM2-135M-Instruct."""
    source = folder or str(ensure_embedded(None, progress=True))
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(source)


def main() -> None:
    """Train with the settings of the command line, and compare the first steps with the last ones."""
    parser = argparse.ArgumentParser(description="GRPO from scratch: learn to answer with a ranking.")
    parser.add_argument("--model", help="folder of another chat model [the embedded model]")
    parser.add_argument("--steps", type=int, default=Settings.steps, help=f"training steps [{Settings.steps}]")
    parser.add_argument("--seed", type=int, default=Settings.seed, help=f"seed [{Settings.seed}]")
    options = parser.parse_args()
    model, tokenizer = load(options.model)
    steps = train(model, tokenizer, Settings(steps=options.steps, seed=options.seed))
    width = min(4, len(steps))
    first, last = fmean(step.reward for step in steps[:width]), fmean(step.reward for step in steps[-width:])
    print(f"mean reward of the first {width} steps {first:.2f}, of the last {width} steps {last:.2f}")


if __name__ == "__main__":
    main()
