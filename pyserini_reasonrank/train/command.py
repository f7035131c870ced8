"""``python -m pyserini_reasonrank train STEP``: one step of training, set by a YAML file and dotted flags over it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, get_args

import yaml
from pydantic import BaseModel

from pyserini_reasonrank.cli.help import choices
from pyserini_reasonrank.engines.local.libraries import before_torch, keep_freed_memory, without_sklearn
from pyserini_reasonrank.errors import UsageError, nearest, validated
from pyserini_reasonrank.resources import conf, yaml_names
from pyserini_reasonrank.settings.layers import merge
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
    "export": "export",
    "recipe": "recipe",
}
"""The module of each step: it has a ``Config`` and a ``run(config)``, and its first line says what it does."""

USAGE = "usage: python -m pyserini_reasonrank train STEP --config FILE.yaml [--KEY.SUB VALUE ...]"


class Step(Protocol):
    """What the module of a step offers."""

    __doc__: str
    Config: type[BaseModel]

    def run(self, config: Any) -> None: ...


class Loader(yaml.SafeLoader):
    """YAML whose ``1e-5`` is a number, which YAML 1.1 takes for a word."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("+-.0123456789")
)


def train(argv: Sequence[str]) -> int:
    """Run a step. Returns the exit status; UsageError and Failure are the caller's to show."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0 if argv else 2
    name, *words = argv
    module = step(name)
    if {"-h", "--help"} & set(words):
        print(step_help(name, module))
    else:
        config = load(name, module.Config, words)
        before_torch()
        keep_freed_memory()
        if issubclass(module.Config, TrainerSettings):
            without_sklearn()
        module.run(config)
        _part()
    return 0


def _part() -> None:
    """Leave the group of processes together: one that ends while its threads of the group live may abort."""
    torch: Any = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def step(name: str) -> Step:
    """The module of a step. UsageError if there is none, or if what it needs is not installed."""
    if name not in STEPS:
        raise UsageError(f"there is no training step {name!r}{nearest(name, STEPS)}")
    return cast(Step, import_module(f"pyserini_reasonrank.train.{STEPS[name]}"))


def load[C: BaseModel](name: str, config: type[C], words: Sequence[str]) -> C:
    """The settings of step ``name``: ``--config``'s, a file or the name of one in conf/train, under the other flags."""
    given, tree = _flags(words), Tree()
    if "config" in given:
        tree = read_yaml(str(given.pop("config")))
    tree = merge(tree, given)
    required = [field for field, info in config.model_fields.items() if info.is_required()]
    if missing := [f"--{field}" for field in required if field not in tree]:
        raise UsageError(
            f"train {name} needs {' and '.join(missing)}, in its YAML or as a flag; train {name} --help says more"
        )
    return validated(config, tree, name)


def read_yaml(source: str) -> Tree:
    """A file, or the one that ships under this name in conf/train. UsageError if it is neither or holds no mapping."""
    path, shipped = Path(source), yaml_names("train")
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif source in shipped:
        text = conf("train", f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise UsageError(f"--config {source} is no file and no recipe of conf/train{nearest(path.stem, shipped)}")
    try:
        tree = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{source} holds no YAML mapping")
    return tree


def overview() -> str:
    """The steps, one line each."""
    lines = [f"  {name:<14} {_about(step(name))}" for name in STEPS]
    shipped = ", ".join(yaml_names("train"))
    return "\n".join([USAGE, "", *lines, "", f"Recipes to name with --config: {shipped}"])


def step_help(name: str, module: Step) -> str:
    """The settings of a step."""
    return "\n".join([USAGE.replace("STEP", name), "", _about(module), "", *_fields(module.Config, "--")])


def _about(module: Step) -> str:
    return module.__doc__.splitlines()[0]


def _fields(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        default = "" if field.is_required() or field.default in (None, "", {}, [], ()) else f" [{field.default}]"
        nested = _nested(field.annotation)
        about = "; ".join(filter(None, (field.description, choices(field.annotation))))
        yield f"  {prefix + name:<28} {about}{'' if nested else default}".rstrip()
        if nested:
            yield from _fields(nested, f"{prefix}{name}.")


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The settings that lie below a key: of ``Lora | None``, those of ``Lora``."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _flags(words: Sequence[str]) -> Tree:
    """``--KEY.SUB VALUE`` and ``--KEY.SUB=VALUE`` as a tree of keys."""
    tree, rest = Tree(), list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not flag.startswith("--"):
            raise UsageError(f"{flag!r} is no flag: write --KEY VALUE")
        if not equals:
            if not rest:
                raise UsageError(f"{flag} needs a value")
            value = rest.pop(0)
        *parents, leaf = flag.removeprefix("--").split(".")
        below = tree
        for key in parents:
            below = below.setdefault(key, {})
            if not isinstance(below, dict):
                raise UsageError(f"{flag} and --{key} can't both be given")
        below[leaf] = scalar(value)
    return tree


def scalar(text: str) -> Any:
    """A flag's value as YAML reads it, save for what YAML would make of a date, ``0123`` or ``a: b``: these are words."""
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError:
        return text
    if isinstance(value, list | dict):
        return value if text.lstrip().startswith(("[", "{")) else text
    written = type(value) is not int or str(value) == text
    return value if written and (value is None or isinstance(value, bool | int | float)) else text
