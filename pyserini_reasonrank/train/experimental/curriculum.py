"""Train on domains one after the other, with replay, in the order with the least forgetting.

Omni-Thinker (arXiv 2507.14783), adapted to ranking: the domains are parts of the training mix. Short runs measure how
training on domain j changes the score on domain i (backward transfer); the best order is found by trying all orders.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations, permutations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError, validated
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.train.data.held_out import split_position
from pyserini_reasonrank.train.data.rows import Row, as_line, read_rows, write_rows
from pyserini_reasonrank.train.folder import main_process
from pyserini_reasonrank.train.trainers import grpo, sft

MOST = 6  # domains whose orders can all be tried
OWN = ("model", "data", "output")
TRAINERS = {"sft": sft, "grpo": grpo}

Transfer = dict[str, dict[str, float]]
"""``transfer[i][j]``: the score on domain i after training on i and then on j, minus the score before training on j."""


class Domain(BaseModel):
    """A part of the training mix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[list[Path], Field(min_length=1, description="files of the domain's rows")]
    settings: Annotated[dict[str, Any], Field(description="overrides of the trainer's settings: rewards, args")] = {}


class Config(BaseModel):
    """Settings of ``train curriculum``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(description="model to start from")]
    domains: Annotated[dict[str, Domain], Field(min_length=1, description="the domains by name")]
    output: Annotated[Path, Field(description="output folder, with the stages in 1-NAME, 2-NAME, ...")]
    trainer: Annotated[Literal["sft", "grpo"], Field(description="trainer of the stages")] = "grpo"
    settings: Annotated[dict[str, Any], Field(description="settings of the trainer")] = {}
    order: Annotated[list[str] | None, Field(description="order of the domains; measured if null")] = None
    replay: Annotated[
        float, Field(ge=0, lt=1, description="share of a stage's rows that come from earlier domains")
    ] = 0.15
    probe_steps: Annotated[int, Field(ge=1, description="steps of the short runs that measure transfer")] = 200
    held_out: Annotated[int, Field(ge=1, description="rows of each domain held out to score it")] = 64
    seed: int = 929


def run(config: Config) -> None:
    """Measure the order if none is given, then train stage by stage. A second call continues where the first stopped.

    UsageError for domains or settings that can't be used.
    """
    names = list(config.domains)
    if config.order is not None and sorted(config.order) != sorted(names):
        raise UsageError(f"order must name each domain once: {', '.join(names)}")
    if config.order is None and len(names) > MOST:
        raise UsageError(f"the order of {len(names)} domains can't be measured (at most {MOST}): set order")
    if config.order is None and _uses_self_reward(config):
        raise UsageError(
            "self-rewards (latro) of different models are not comparable, so no order can be measured: set order"
        )
    if taken := [name for name in OWN if name in config.settings]:
        raise UsageError(f"curriculum.settings.{taken[0]} is set by the curriculum: remove it from settings")
    rows = {name: _rows(name, domain) for name, domain in config.domains.items()}
    if config.order is None:
        split = {name: _split(name, found, config) for name, found in rows.items()}
        rows = {name: train for name, (train, _) in split.items()}
        order = best_order(_transfer(config, split))
    else:
        order = config.order
    print(f"order: {', '.join(order)}")
    model, earlier = config.model, list[Row]()
    for number, name in enumerate(order, 1):
        stage = mixed(rows[name], earlier, config.replay, config.seed)
        model = _train(config, name, model, stage, f"{number}-{name}", {})
        earlier += rows[name]
    print(f"the last stage is {model}")


def _uses_self_reward(config: Config) -> bool:
    trees = [config.settings, *(domain.settings for domain in config.domains.values())]
    return config.trainer == "grpo" and any(tree.get("latro") is not None for tree in trees)


def best_order(transfer: Transfer) -> list[str]:
    """The order with the smallest sum of negative transfers from later to earlier domains.

    Ties go to the order with the highest total transfer, then to the given order of the domains.
    """

    def cost(order: Iterable[str]) -> tuple[float, float]:
        found = [transfer[early][late] for early, late in combinations(order, 2)]
        return -sum(min(value, 0.0) for value in found), -sum(found)

    orders: list[tuple[str, ...]] = list(permutations(transfer))
    return list(min(orders, key=cost))


def mixed(rows: Sequence[Row], earlier: Sequence[Row], share: float, seed: int) -> list[Row]:
    """``rows`` and a random sample of ``earlier`` that makes up ``share`` of the result, shuffled."""
    chance = random.Random(seed)
    count = min(round(len(rows) * share / (1 - share)), len(earlier))
    found = [*rows, *chance.sample(list(earlier), count)]
    chance.shuffle(found)
    return found


def _rows(name: str, domain: Domain) -> list[Row]:
    """A domain's rows. Prints the rows that were left out."""
    found = list[Row]()
    for path in domain.data:
        rows, audit = read_rows(path)
        found += rows
        if main_process():
            print(f"{name}: {audit}")
    return found


def _split(name: str, found: Sequence[Row], config: Config) -> tuple[list[Row], list[Row]]:
    """The rows to train on and the held-out rows, split by query. UsageError for a domain with a single query."""
    position = {row.query: split_position(row.query, config.seed) for row in found}
    places = sorted(set(position.values()))  # queries that differ only in case and punctuation share a place
    if len(places) < 2:
        raise UsageError(f"domain {name} has a single query, so none can be held out: set order")
    held, measured = set[float](), 0
    while measured < config.held_out and len(held) < len(places) // 2:
        held.add(places[len(held)])
        measured = sum(position[row.query] in held for row in found)
    train = [row for row in found if position[row.query] not in held]
    return train, [row for row in found if position[row.query] in held]


def _transfer(config: Config, rows: Mapping[str, tuple[list[Row], list[Row]]]) -> Transfer:
    """The measured transfer matrix. It is saved in the folder, because it takes K + K (K - 1) short runs."""
    path, measured = config.output / "transfer.json", _measured(config, rows)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["measured"] != measured:
            raise UsageError(
                f"{path} was measured with other settings or rows: name another --output, or remove {config.output}"
            )
        known: Transfer = found["transfer"]
        return known
    short = {"max_steps": config.probe_steps, "save_strategy": "no"}
    transfer: Transfer = {}
    for i, (train, held) in rows.items():
        first = _train(config, i, config.model, train, f"probes/{i}", short)
        before = _score(config, i, first, held)
        transfer[i] = {}
        for j in rows:
            if j != i:
                then = _train(config, j, first, rows[j][0], f"probes/{i}-{j}", short)
                transfer[i][j] = _score(config, i, then, held) - before
        print(f"transfer to {i}: " + ", ".join(f"{value:+.4f} from {j}" for j, value in transfer[i].items()))
    if main_process():
        with atomic(path) as file:
            file.write(json.dumps({"measured": measured, "transfer": transfer}, indent=2).encode())
    return transfer


def _measured(config: Config, rows: Mapping[str, tuple[list[Row], list[Row]]]) -> str:
    """The digest of the settings and rows that the transfer depends on."""
    digest = hashlib.sha256(config.model_dump_json(exclude={"output", "order", "replay"}).encode())
    for parts in rows.values():
        for row in chain(*parts):
            digest.update(as_line(row))
    return digest.hexdigest()


def _train(config: Config, name: str, model: str, rows: Sequence[Row], folder: str, args: Mapping[str, Any]) -> str:
    from accelerate import PartialState

    output = config.output / folder
    data = config.output / "rows" / f"{folder.replace('/', '-')}.jsonl"
    if main_process():
        data.parent.mkdir(parents=True, exist_ok=True)
        write_rows(data, rows)
    PartialState().wait_for_everyone()
    settings = {**config.settings, **config.domains[name].settings}
    settings["args"] = {**config.settings.get("args", {}), **config.domains[name].settings.get("args", {}), **args}
    module = TRAINERS[config.trainer]
    made = validated(module.Config, {**settings, "model": model, "data": [data], "output": output}, config.trainer)
    module.run(made)
    return str(output)


def _score(config: Config, name: str, model: str, rows: Sequence[Row]) -> float:
    from pyserini_reasonrank.train.experimental.probe import likelihood, mean_reward

    settings = {**config.settings, **config.domains[name].settings}
    if config.trainer == "sft":
        return likelihood(model, rows)
    rewards = [grpo.function(grpo.Reward.model_validate(reward)) for reward in settings["rewards"]]
    weights = [float(reward.get("weight", 1.0)) for reward in settings["rewards"]]
    return mean_reward(model, rows, rewards, weights, int(settings.get("args", {}).get("max_completion_length", 512)))
