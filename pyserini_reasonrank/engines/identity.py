"""Identity of a model's weights and loading settings, which decides whether recorded answers can be reused.

A folder is identified by its content, not by its path or dates: answers are reused if the folder is moved or made again, and
not if other weights replace it. A weights file too large to read completely is identified by its size, the beginning of each
tensor and evenly spread pieces, all of which training changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from pydantic import BaseModel

from pyserini_reasonrank.models.hub import cached_commit

WHOLE = 64 << 20  # bytes up to which a file is read completely
PIECE, PIECES = 4096, 1024  # bytes of a piece; number of pieces of a large file

_READ = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.bin", "*.pt", "*.gguf")
_LEFT_BY_TRAINING = (
    "training.json", "training_args.bin", "trainer_state.json", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*",
)  # fmt: skip
_PROVENANCE = {"_name_or_path", "name_or_path", "base_model_name_or_path", "transformers_version", "peft_version"}

_HOW_FAST = {"concurrency", "max_retries", "timeout", "batching"}
# properties of a server; the identity of OpenAI adds those that affect answers
_OF_THE_SERVER = {"base_url", "server", "continue_final_message", "structured_outputs", "rename", "generative_scoring"}
_WHERE_AND_HOW_FAST = {
    "gpu_memory_utilization", "kv_cache_memory_bytes", "swap_space", "cpu_offload_gb", "max_num_seqs", "device_map",
    "max_num_batched_tokens", "enable_prefix_caching", "enforce_eager", "disable_log_stats", "tensor_parallel_size",
    "pipeline_parallel_size", "data_parallel_size", "low_cpu_mem_usage", "max_memory", "offload_folder",
}  # fmt: skip


def weights(source: str, revision: str | None) -> str:
    """Identify a folder by its content, a hub id by its commit in the cache or, if not cached, by ``revision``."""
    folder = Path(source)
    return _content(folder) if folder.is_dir() else f"{source}@{cached_commit(source, revision)}"


def is_local(source: str, revision: str | None) -> bool:
    """Whether the weights are a folder or in the hub's cache, so that ``weights`` is the same before and after loading."""
    return Path(source).is_dir() or cached_commit(source, revision) != revision


def loading(options: BaseModel) -> str:
    """Return, as JSON, the options of an engine that were set and can change an answer.

    Every setting counts unless it is known to affect speed only. ``device`` counts as given, without its number: ``auto`` is
    the same everywhere, so that a run can be continued on another machine.
    """
    given = options.model_dump(exclude_defaults=True)
    changing = {name: value for name, value in given.items() if name not in _HOW_FAST | _OF_THE_SERVER}
    if isinstance(args := changing.get("args"), Mapping):
        changing["args"] = {name: value for name, value in args.items() if name not in _WHERE_AND_HOW_FAST}
    if "device" in changing:
        changing["device"] = str(changing["device"]).partition(":")[0]
    return json.dumps({name: value for name, value in changing.items() if value != {}}, sort_keys=True, default=str)


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file() and _is_read(file.name)):
        digest.update(f"{file.name}\0".encode())
        digest.update(_config(file) if file.name.endswith("config.json") else _sampled(file))
    return digest.hexdigest()


def _is_read(name: str) -> bool:
    """Whether a loader reads a file of this name."""
    return any(fnmatch(name, pattern) for pattern in _READ) and not any(fnmatch(name, p) for p in _LEFT_BY_TRAINING)


def _config(file: Path) -> bytes:
    """Return a configuration without paths and library versions."""
    text = file.read_bytes()
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if isinstance(found, dict):
        found = {key: value for key, value in found.items() if key not in _PROVENANCE}
    return json.dumps(found, sort_keys=True).encode()


def _sampled(file: Path) -> bytes:
    """Return the digest of a file, or of the sampled pieces of a large file."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        if size <= WHOLE:
            return hashlib.file_digest(opened, "sha256").digest()
        digest = hashlib.sha256(str(size).encode())
        for start in sorted({*range(0, size, size // PIECES), *_tensors(file)}):
            opened.seek(start)
            digest.update(opened.read(PIECE))
    return digest.digest()


def _tensors(file: Path) -> list[int]:
    """Return the offset of each tensor in a safetensors file; [] for other files."""
    if file.suffix != ".safetensors":
        return []
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length)) if length < WHOLE else {}
    return [8 + length + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"]
