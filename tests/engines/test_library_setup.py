"""What is kept out of a process, and what freed memory costs, each seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

IMPORTS = """
import sys
from pyserini_reasonrank.engines.local.library_setup import without_sklearn, without_vllm
without_sklearn()
without_vllm()
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer
print([name for name in ("sklearn", "vllm") if name in sys.modules])
"""

FAULTS = """
import resource, sys
from pyserini_reasonrank.engines.local.library_setup import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(50):
    b"x" * (1 << 25)  # 32 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _said(program: str, *words: str) -> str:
    return subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(
    None in (find_spec("transformers"), find_spec("trl")), reason="transformers or TRL is not installed"
)
@pytest.mark.soak_only
def test_sklearn_and_vllm_are_installed_but_not_loaded() -> None:
    assert None not in (find_spec("sklearn"), find_spec("vllm"))
    assert _said(IMPORTS).splitlines()[-1] == "[]"


def test_what_is_freed_is_taken_again_without_new_pages() -> None:
    kept, freed = (int(_said(FAULTS, way)) for way in ("keep", "free"))
    assert kept < freed / 4
