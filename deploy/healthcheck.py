# SPDX-License-Identifier: Apache-2.0
"""Tells a container engine whether `airway serve` is ready: exit status 0 is healthy.

A process that opened everything its roles ask for has written ``endpoints.json`` into its data folder. Where
that names an HTTP door, the door must answer too. Standard library only. Usage: healthcheck.py DATA_FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

_TIMEOUT_S = 4


def is_ready(data: Path) -> bool:
    """Whether the process that serves from `data` runs and, where it has an HTTP door, says it is ready."""
    try:
        endpoints = json.loads((data / "endpoints.json").read_text(encoding="utf-8"))
        os.kill(int(endpoints["pid"]), 0)
        if "http" in endpoints:
            url = f"{endpoints['http']}/health/ready"
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - airway wrote the file
                return bool(answer.status == 200)
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(0 if is_ready(Path(sys.argv[1])) else 1)
