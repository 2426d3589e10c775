#!/usr/bin/env bash
# Make .venv (PyQt6 and every check) and .venv-pyqt5 (the window tests on PyQt5).
# Uses uv for speed and falls back to pip; installs what Debian lacks when it may.
set -euo pipefail
cd "$(dirname "$0")/.."

# What Qt's platform plugins load, and a virtual screen for machines without one.
wanted=(
    libegl1 libgl1 libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0
    libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
    libxcb-xinerama0 libgl1-mesa-dri xvfb xauth
)
need=()
if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    need+=(python3 python3-venv)
fi
if command -v dpkg-query >/dev/null; then
    for package in "${wanted[@]}"; do
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$status" = "install ok installed" ] || need+=("$package")
    done
fi
if [ ${#need[@]} -gt 0 ]; then
    line="apt-get install -y --no-install-recommends ${need[*]}"
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive $line >/dev/null
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive $line >/dev/null
    else
        echo "Missing packages. Run this once, then try again:  sudo $line" >&2
        exit 2
    fi
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $(python3 --version) was found." >&2
    exit 2
}

# One environment per Qt binding: with both in one, qtpy has to guess.
install() {
    local folder=$1 extras=$2
    [ -x "$folder/bin/python" ] || python3 -m venv "$folder"
    "$folder/bin/python" -m pip --version >/dev/null 2>&1 || python3 -m venv --upgrade-deps "$folder"
    if [ -x .venv/bin/uv ] || .venv/bin/python -m pip install -q uv; then
        .venv/bin/uv pip install -q --python "$folder/bin/python" -e ".[$extras]"
    else
        "$folder/bin/python" -m pip install -q -e ".[$extras]"
    fi
}
install .venv dev,pyqt6
install .venv-pyqt5 test,pyqt5
touch .venv/.ready
