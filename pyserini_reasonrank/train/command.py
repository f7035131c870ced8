"""``train STEP``: one step of training, with settings from a YAML file and dotted flags over it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from pydantic import BaseModel

from pyserini_reasonrank.cli.commands import COMMANDS, PROGRAM
from pyserini_reasonrank.cli.exit import SUCCESS, USAGE
from pyserini_reasonrank.engines.local.library_setup import before_torch, keep_freed_memory, without_sklearn
from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.resources import yaml_names
from pyserini_reasonrank.settings import files, flags
from pyserini_reasonrank.settings.flags import CONFIG
from pyserini_reasonrank.settings.help import setting_lines
from pyserini_reasonrank.settings.overlay import merge
from pyserini_reasonrank.settings.schema import Tree
from pyserini_reasonrank.train.settings import TrainerSettings

STEPS: dict[str, str] = {
    "data": "data.prepare",
    "synthesize": "data.synthesize",
    "decontaminate": "data.decontaminate",
    "sft": "trainers.sft",
    "grpo": "trainers.grpo",
    "pairs": "trainers.pairs",
    "dpo": "trainers.dpo",
    "distil": "distil.distillation",
    "curriculum": "experimental.curriculum",
    "route": "router.train_router",
    "plan": "forecast",
    "export": "export",
    "recipe": "recipe",
}
"""The module of each step: it has a ``Config`` and a ``run(config)``, and its first line says what it does."""

FOLDER = "train"  # of conf/, with the shipped settings

_USAGE = f"usage: {PROGRAM} train STEP [--config FILE] [--KEY.SUB VALUE ...]"


class Step(Protocol):
    """The module of a step."""

    __doc__: str
    Config: type[BaseModel]

    def run(self, config: Any) -> None: ...


def main(argv: Sequence[str]) -> int:
    """Run a step. Returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return SUCCESS if argv else USAGE
    name, *words = argv
    module = step(name)
    if {"-h", "--help"} & set(words):
        print(step_help(name, module))
        return SUCCESS
    config = load(name, module.Config, words)
    before_torch()
    keep_freed_memory()
    if issubclass(module.Config, TrainerSettings):
        without_sklearn()
    module.run(config)
    _leave_process_group()
    return SUCCESS


def _leave_process_group() -> None:
    """Leave torch's process group together: a process that exits while threads of its group still run may abort."""
    torch: Any = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def step(name: str) -> Step:
    """The module of a step. UsageError if there is none, or if a package that it needs is not installed."""
    if name not in STEPS:
        raise UsageError(f"there is no training step {name!r}{nearest(name, STEPS)}")
    return cast(Step, import_module(f"pyserini_reasonrank.train.{STEPS[name]}"))


def load[C: BaseModel](name: str, config: type[C], words: Sequence[str]) -> C:
    """The settings of step ``name``: those of ``--config``, a file or the name of one in conf/train, under the other
    flags. UsageError for the first fault.

    A null resets a key of the file to the default of the step.
    """
    given = flags.parse(words, config)
    source, tree = given.pop(CONFIG, None), Tree()
    if source is not None:
        tree = read_settings(str(source))
    tree = merge(tree, given)
    required = [field for field, info in config.model_fields.items() if info.is_required()]
    if missing := [f"--{field}" for field in required if tree.get(field) is None]:
        raise UsageError(
            f"train {name} needs {' and '.join(missing)}, as a flag or in its YAML file; see train {name} --help"
        )
    return validated(config, tree, name)


def read_settings(source: str) -> Tree:
    """The settings in a file, or in the one of that name in conf/train. UsageError if it is not a YAML mapping."""
    return files.read(source, flag=f"--{CONFIG}", folder=FOLDER)


def overview() -> str:
    """The usage of ``train``, its steps, and the shipped settings."""
    width = max(map(len, STEPS))
    return "\n".join([
        _USAGE,
        "",
        f"{COMMANDS['train'].purpose}.",
        "",
        "steps (train STEP --help lists the settings of one):",
        *(f"  {name:<{width}}  {_purpose(step(name))}" for name in STEPS),
        "",
        f"shipped settings (--config NAME): {', '.join(yaml_names(FOLDER))}",
        "",
        "examples:",
        f"  {PROGRAM} train recipe --config student --output student",
        f"  {PROGRAM} train sft --config sft-rank-r1 --data '[rows.jsonl]' --output trained --args.learning_rate 2e-5",
    ])  # fmt: skip


def step_help(name: str, module: Step) -> str:
    """The usage of a step and its settings."""
    return "\n".join([
        _USAGE.replace("STEP", name),
        "",
        _purpose(module),
        "",
        "settings (each flag takes one value; null resets a key to its default):",
        *setting_lines(module.Config, more={CONFIG: "YAML file with any of these keys, or the name of shipped settings"}),
        "",
        "example:",
        f"  {PROGRAM} train {name} --config {name}.yaml{_example(module.Config)}",
    ])  # fmt: skip


def _example(config: type[BaseModel]) -> str:
    """The required keys as flags."""
    required = [name for name, field in config.model_fields.items() if field.is_required()]
    return "".join(f" --{name} {name.upper()}" for name in required)


def _purpose(module: Step) -> str:
    return module.__doc__.splitlines()[0]
