#!/usr/bin/env bash
# Make .venv with the package (editable) and everything its checks need.
# Uses uv for speed and falls back to pip; installs what Debian lacks when it may.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    need+=(python3 python3-venv)
fi
if [ ${#need[@]} -gt 0 ]; then
    line="apt-get install -y ${need[*]}"
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq && $line
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo apt-get update -qq && sudo $line
    else
        echo "Missing packages. Run this once, then try again:  sudo $line" >&2
        exit 2
    fi
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $(python3 --version) was found." >&2
    exit 2
}

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv --upgrade-deps .venv
if .venv/bin/python -m pip install -q uv; then
    .venv/bin/uv pip install -q --python .venv/bin/python -e '.[dev]'
else
    .venv/bin/python -m pip install -q -e '.[dev]'
fi
touch .venv/.ready
