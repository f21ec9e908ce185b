#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Creates .venv from a bare Python and installs exactly what uv.lock pins. Needs no uv beforehand.
set -euo pipefail
cd "$(dirname "$0")/.."

supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    if [[ -n $candidate ]] && "$candidate" -c "$supported" >/dev/null 2>&1; then
      "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
      return
    fi
  done
  echo "setup: Airway needs Python 3.11, 3.12 or 3.13; none was found on PATH." >&2
  echo "setup: install one (Debian 12: sudo apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3" >&2
  return 1
}

if ! .venv/bin/python -c "$supported" >/dev/null 2>&1; then
  python="$(find_python)"
  echo "setup: creating .venv from $python"
  if ! "$python" -m venv --clear .venv; then
    echo "setup: this Python cannot make virtual environments (Debian: sudo apt-get install python3-venv)." >&2
    exit 1
  fi
fi

# The lock pins uv too, so the tool that installs is as fixed as what it installs.
locked_uv="$(awk '$0 == "name = \"uv\"" { getline; gsub(/version = |"/, ""); print; exit }' uv.lock)"
if [[ -z $locked_uv ]]; then
  echo "setup: uv.lock does not pin uv." >&2
  exit 1
fi
if [[ "$(.venv/bin/uv --version 2>/dev/null | awk '{ print $2 }')" != "$locked_uv" ]]; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$locked_uv"
fi

# --inexact leaves pip where it is, so that a later change of the uv pin can be installed the same way.
UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never \
  .venv/bin/uv sync --quiet --frozen --inexact --python .venv/bin/python
echo "setup: .venv holds what uv.lock pins"
