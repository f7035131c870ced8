"""Export a trained policy for serving: merged or as an adapter, with a model card and a YAML file for --rerank.config."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.interrupts import temporary_folder
from pyserini_reasonrank.ir.file_io import atomic
from pyserini_reasonrank.models.catalogue import known_models
from pyserini_reasonrank.models.describe import read_adapter_config
from pyserini_reasonrank.resources import dump_yaml
from pyserini_reasonrank.run.plan import plan
from pyserini_reasonrank.settings import layers
from pyserini_reasonrank.settings.schema import Settings
from pyserini_reasonrank.train.folder import BASE, RECORD, read_record

SERVING = "reranker.yaml"
CARD = "README.md"
PROMPT = "prompt.yaml"
NOT_SERVED = ("checkpoint-*", "best", "dev", "ref", "completions", "*.bin", "*.html", RECORD, BASE, CARD)


class Config(BaseModel):
    """Settings of ``train export``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[Path, Field(description="folder of a training run, or of a model or adapter")]
    output: Annotated[Path, Field(description="folder of the export")]
    reranker: Annotated[str, Field(description="reranker to serve the model with")]
    settings: Annotated[dict[str, Any], Field(description="settings of the reranker, as under --rerank")] = {}
    checkpoint: Annotated[
        Literal["best", "last"] | None,
        Field(description="checkpoint to export; default: the best one if there is one"),
    ] = None
    merge: Annotated[
        bool, Field(description="merge an adapter into the weights; otherwise export the adapter alone")
    ] = True
    dtype: Annotated[str, Field(description="data type of the exported weights: auto, float32, bfloat16, ...")] = "auto"
    licence: Annotated[str | None, Field(description="licence of the base model, if it is not one of `models`")] = None


def run(config: Config) -> None:
    """Export. UsageError if the model does not exist or can't be served with these settings."""
    chosen = _checkpoint(config)
    adapter = (chosen / "adapter_config.json").is_file()
    settings, warnings = layers.load(config.reranker, {**config.settings, "engine": {"name": "oracle"}})
    plan(settings, warnings)
    if config.output.exists() and any(config.output.iterdir()):
        raise UsageError(f"{config.output} is not empty: name another --output")
    records = chain(config.model)
    parent = config.output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f".{config.output.name}-", parent) as scratch:
        written = Path(scratch, "export")
        _export(config, settings, chosen, adapter, records, written)
        written.rename(config.output)
    print(f"{config.output}: serve it with --rerank {config.reranker} --rerank.config {config.output / SERVING}")


def _export(
    config: Config,
    settings: Settings,
    chosen: Path,
    adapter: bool,
    records: Sequence[Mapping[str, Any]],
    folder: Path,
) -> None:
    """Write the model, its settings and its card to the new ``folder``."""
    if adapter and not config.merge:
        shutil.copytree(chosen, folder, ignore=shutil.ignore_patterns(*NOT_SERVED))
        served = {"model": _base(chosen), "adapter": str(config.output.resolve())}
    else:
        _save(chosen, folder, config.dtype)
        served = {"model": str(config.output.resolve())}
    serving_tree = {**served, **config.settings}
    if (prompt := Path(settings.prompt)).is_file():  # a prompt of the model's own is exported with it
        shutil.copy(prompt, folder / PROMPT)
        serving_tree["prompt"] = str((config.output / PROMPT).resolve())
    _write(folder / SERVING, dump_yaml(serving_tree))
    _write(folder / CARD, card(config, records, served))


def chain(folder: Path) -> list[dict[str, Any]]:
    """The records of the training runs that led to the model in ``folder``, first to last."""
    found: list[dict[str, Any]] = []
    while (record := read_record(folder)) is not None:
        found.insert(0, record)
        settings = record["settings"]
        folder = Path(str(settings.get("adapter") or settings["model"]))
    return found


def card(config: Config, records: Sequence[Mapping[str, Any]], served: Mapping[str, str]) -> str:
    """The model card: metadata, how to serve the model, and the data, settings and figures of each training run."""
    base = str(records[0]["settings"]["model"]) if records else served["model"]
    known = known_models().get(base)
    licence = config.licence or (known.licence if known else "") or "unknown"
    head = {
        "base_model": known.source if known and "/" in known.source else base,
        "license": licence.lower(),
        "library_name": "peft" if "adapter" in served else "transformers",
        "pipeline_tag": "text-ranking",
        "tags": ["reranking", "pyserini-reasonrank", *(str(record["step"]) for record in records)],
    }
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {config.output.name}\n",
        f"A reranker trained from `{base}` (licence: {licence}) with pyserini-reasonrank. Its training data may have",
        "licences of their own: see the data below.\n",
        "## Serve it\n",
        "    python -m pyserini.search --index INDEX --topics TOPICS --output RUN --bm25 \\",
        f"      --rerank {config.reranker} --rerank.config {SERVING}\n",
        f"`{SERVING}` contains the settings of the export:\n",
        _indented(yaml.safe_dump(dict(config.settings), sort_keys=False)),
    ]
    for number, record in enumerate(records, 1):
        lines += [f"\n## Step {number}: {record['step']}\n", *_figures(record), "\nSettings:\n"]
        lines.append(_indented(yaml.safe_dump(dict(record["settings"]), sort_keys=False)))
    if records:
        versions = ", ".join(f"{name} {number}" for name, number in records[-1]["versions"].items())
        lines.append(f"\n## Versions\n\n{versions}")
    return "\n".join(lines) + "\n"


def _figures(record: Mapping[str, Any]) -> list[str]:
    lines = [f"Data: {', '.join(record['settings']['data'])}."] if "data" in record["settings"] else []
    for audit in record.get("rows", ()):
        left = ", ".join(f"{count} {fault}" for fault, count in audit["left_out"].items())
        lines.append(f"{audit['kept']} of {audit['read']} rows used{f'; left out: {left}' if left else ''}.")
    if not record.get("finished"):
        return [*lines, "This run is not finished; the model is one of its checkpoints."]
    lines += [
        f"{record['steps']} steps in {record['seconds']:.0f} s.",
        "",
        "| measure | first | last |",
        "|---|---|---|",
    ]
    log = [entry for entry in record["log"] if "train_runtime" not in entry]
    for name, last in record["metrics"].items():
        if name in ("loss", "reward", "entropy", "completions/mean_length") or name.startswith(("dev/", "rewards/")):
            first = next(entry[name] for entry in log if name in entry)
            lines.append(f"| {name} | {first:.4g} | {last:.4g} |")
    return lines


def _checkpoint(config: Config) -> Path:
    best = config.model / "best"
    if config.checkpoint == "best" and not best.is_dir():
        raise UsageError(f"{config.model} has no best checkpoint: it was trained without dev topics")
    chosen = best if best.is_dir() and config.checkpoint != "last" else config.model
    if not any((chosen / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise UsageError(f"{chosen} has neither a model nor an adapter: check that the run is finished")
    return chosen


def _base(adapter: Path) -> str:
    config = read_adapter_config(str(adapter))
    if config is None or config.base is None:
        raise UsageError(f"{adapter}/adapter_config.json does not name its base: set base_model_name_or_path there")
    return config.base


def _save(chosen: Path, output: Path, dtype: str) -> None:
    from pyserini_reasonrank.train.settings import PolicySettings
    from pyserini_reasonrank.train.trainers.policy import load

    policy = load(PolicySettings(model=str(chosen), model_args={"dtype": dtype}))
    model = policy.model.merge_and_unload() if hasattr(policy.model, "merge_and_unload") else policy.model
    model.save_pretrained(output)
    policy.tokenizer.save_pretrained(output)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(text.encode())


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
