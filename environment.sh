#!/usr/bin/env bash
# Makes or updates the environment of this project in .venv, with a Python that it runs on. `make setup` calls it.
#
# With uv on the PATH, uv does it, and fetches a Python where the machine has none that is supported. Without uv, venv
# and pip of a Python do: $BASE, or the first supported of python3, python3.13, python3.12 and python3.11. A .venv that
# cannot be used is made again if this script made it, else refused.
set -euo pipefail
cd "$(dirname "$0")"

SUPPORTED="3.11, 3.12 or 3.13"
RANGE=">=3.11,<3.14" # requires-python of pyproject.toml
UNFINISHED=.venv/.unfinished
INSTALLED=.venv/.installed

fail() {
    echo "Error: $*" >&2
    exit 1
}

# The version of a Python as `3.12`; empty if it does not run.
version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

supported() {
    [[ "$(version "$1")" =~ ^3\.1[123]$ ]]
}

has_uv() {
    [ -z "${BASE:-}" ] && command -v uv >/dev/null
}

base_python() {
    local each candidates=(python3 python3.13 python3.12 python3.11) found
    [ -n "${BASE:-}" ] && candidates=("$BASE")
    for each in "${candidates[@]}"; do
        if supported "$each"; then
            echo "$each"
            return
        fi
    done
    found="$(version "${candidates[0]}")"
    fail "Sketchstack needs Python $SUPPORTED, and ${candidates[0]} is ${found:-no Python that runs}. Nothing was" \
        "downloaded. Install one of them and name it, as in \`make setup BASE=/usr/bin/python3.12\`, or install uv" \
        "(https://docs.astral.sh/uv/), which fetches a Python by itself."
}

make_venv() {
    local base
    if has_uv; then
        uv venv --quiet --clear --python "$RANGE" .venv
    else
        base="$(base_python)"
        if ! "$base" -m venv --clear .venv; then
            rm -rf .venv
            fail "$base cannot make an environment; on Debian and Ubuntu, install python$(version "$base")-venv."
        fi
    fi
    touch "$UNFINISHED"
}

# Whether the packages of .venv can be installed: a venv that was stopped while it was made has no pip yet.
usable() {
    supported .venv/bin/python && { has_uv || .venv/bin/python -m pip --version >/dev/null 2>&1; }
}

if [ ! -e .venv ]; then
    make_venv
elif ! usable; then
    found="$(version .venv/bin/python)"
    if [ ! -e "$UNFINISHED" ] && [ ! -e "$INSTALLED" ]; then
        fail "the folder .venv has ${found:-no} Python ${found:+or no pip }and was not made by \`make setup\`, which needs" \
            "Python $SUPPORTED there; move it away, and \`make setup\` makes another."
    fi
    echo "The environment in .venv cannot be used (Python: ${found:-none}); it is made again." >&2
    make_venv
fi
if has_uv; then
    uv pip install --python .venv/bin/python --constraint constraints.txt --editable '.[dev]'
else
    .venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
fi
rm -f "$UNFINISHED"
touch "$INSTALLED"
