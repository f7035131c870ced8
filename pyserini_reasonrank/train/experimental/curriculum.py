"""Train on domains one after the other, with replay, in the order in which each harms those before it least.

Omni-Thinker (arXiv 2507.14783), carried over to ranking: the domains are those of the training mix. How much training
on j changes what is known of i (backward transfer) is measured with short runs; the order is found by trying all.
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
from pyserini_reasonrank.ir.files import atomic
from pyserini_reasonrank.train.data.rows import Row, as_line, read_rows, write_rows
from pyserini_reasonrank.train.folder import main_process
from pyserini_reasonrank.train.trainers import grpo, sft

MOST = 6  # domains whose orders can all be tried
OWN = ("model", "data", "output")
TRAINERS = {"sft": sft, "grpo": grpo}

Transfer = dict[str, dict[str, float]]
"""``transfer[i][j]``: what domain i scores after training on i and then on j, less what it scored before j."""


class Domain(BaseModel):
    """A part of the training mix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[list[Path], Field(min_length=1, description="its rows")]
    settings: Annotated[
        dict[str, Any], Field(description="what differs from the trainer's settings: rewards, args")
    ] = {}


class Config(BaseModel):
    """Settings of ``train curriculum``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(description="to start from")]
    domains: Annotated[dict[str, Domain], Field(min_length=1, description="by name")]
    output: Annotated[Path, Field(description="folder; the stages lie in it as 1-NAME, 2-NAME, ...")]
    trainer: Annotated[Literal["sft", "grpo"], Field(description="what trains a stage")] = "grpo"
    settings: Annotated[dict[str, Any], Field(description="that trainer's settings")] = {}
    order: Annotated[list[str] | None, Field(description="of the domains; measured if null")] = None
    replay: Annotated[float, Field(ge=0, lt=1, description="share of a stage's rows that are earlier domains'")] = 0.15
    probe_steps: Annotated[int, Field(ge=1, description="of the short runs that measure transfer")] = 200
    held_out: Annotated[int, Field(ge=1, description="rows of each domain that measure it, not trained on")] = 64
    seed: int = 929


def run(config: Config) -> None:
    """Measure the order if none is given, then train stage by stage. A second call goes on where the first stopped."""
    names = list(config.domains)
    if config.order is not None and sorted(config.order) != sorted(names):
        raise UsageError(f"order has to name each domain once: {', '.join(names)}")
    if config.order is None and len(names) > MOST:
        raise UsageError(
            f"the order of {len(names)} domains can't be found by trying all, only that of {MOST}: give order"
        )
    if config.order is None and _judges_itself(config):
        raise UsageError("what a model gives itself (latro) can't be compared with what another does: give order")
    if taken := [name for name in OWN if name in config.settings]:
        raise UsageError(f"curriculum.settings.{taken[0]} is set by the curriculum itself: take it out of settings")
    rows = {name: _rows(name, domain) for name, domain in config.domains.items()}
    if config.order is None:
        split = {name: _split(name, found, config) for name, found in rows.items()}
        rows = {name: taught for name, (taught, _) in split.items()}
        order = best_order(_transfer(config, split))
    else:
        order = config.order
    print(f"order: {', '.join(order)}")
    model, earlier = config.model, list[Row]()
    for number, name in enumerate(order, 1):
        taught = rows[name]
        stage = mixed(taught, earlier, config.replay, config.seed)
        model = _train(config, name, model, stage, f"{number}-{name}", {})
        earlier += taught
    print(f"the last stage is {model}")


def _judges_itself(config: Config) -> bool:
    trees = [config.settings, *(domain.settings for domain in config.domains.values())]
    return config.trainer == "grpo" and any(tree.get("latro") is not None for tree in trees)


def best_order(transfer: Transfer) -> list[str]:
    """The order whose later domains take the least from earlier ones: the sum of the negative transfers is smallest.

    Of orders that are equal, the one that gains most; then the one in which the domains came.
    """

    def cost(order: Iterable[str]) -> tuple[float, float]:
        found = [transfer[early][late] for early, late in combinations(order, 2)]
        return -sum(min(value, 0.0) for value in found), -sum(found)

    orders: list[tuple[str, ...]] = list(permutations(transfer))
    return list(min(orders, key=cost))


def mixed(rows: Sequence[Row], earlier: Sequence[Row], share: float, seed: int) -> list[Row]:
    """``rows``, and as many of ``earlier`` at random as make ``share`` of the whole, shuffled."""
    chance = random.Random(seed)
    count = min(round(len(rows) * share / (1 - share)), len(earlier))
    found = [*rows, *chance.sample(list(earlier), count)]
    chance.shuffle(found)
    return found


def _rows(name: str, domain: Domain) -> list[Row]:
    """A domain's rows; what was left out of its files is said."""
    found = list[Row]()
    for path in domain.data:
        rows, audit = read_rows(path)
        found += rows
        if main_process():
            print(f"{name}: {audit}")
    return found


def _split(name: str, found: Sequence[Row], config: Config) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those that measure, no query in both. UsageError for a domain of one query."""
    qids = list(dict.fromkeys(row.qid for row in found))
    random.Random(config.seed).shuffle(qids)
    if len(qids) < 2:
        raise UsageError(f"{name} has one query, of which none can be held back to measure it: give order")
    held, measured = set[str](), 0
    while measured < config.held_out and len(held) < len(qids) // 2:
        held.add(qids.pop())
        measured = sum(row.qid in held for row in found)
    return [row for row in found if row.qid not in held], [row for row in found if row.qid in held]


def _transfer(config: Config, rows: Mapping[str, tuple[list[Row], list[Row]]]) -> Transfer:
    """The measured matrix: kept in the folder, since K + K (K - 1) short runs are behind it."""
    path, measured = config.output / "transfer.json", _measured(config, rows)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["measured"] != measured:
            raise UsageError(
                f"{path} is of other settings or rows: name another --output, or remove {config.output} to begin anew"
            )
        known: Transfer = found["transfer"]
        return known
    short = {"max_steps": config.probe_steps, "save_strategy": "no"}
    transfer: Transfer = {}
    for i, (taught, held) in rows.items():
        first = _train(config, i, config.model, taught, f"probes/{i}", short)
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
    """The digest of all that the transfer depends on."""
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
