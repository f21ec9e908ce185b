# SPDX-License-Identifier: Apache-2.0
"""Speaking to a person at a terminal."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NoReturn

from rich.console import Console

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(headline: str, *lines: str, status: int = 2) -> NoReturn:
    """Tell what is wrong, one fault a line, and exit with `status`."""
    ERR.print(headline, style="bold red", markup=False)
    for line in lines:
        ERR.print(f"  {line}", markup=False)
    sys.exit(status)


def program() -> str:
    """How this person runs Airway, so that a command we print works as printed."""
    called = Path(sys.argv[0])
    if called.name != "airway":
        return f"{sys.executable} -m informatics_gateway"
    found = shutil.which("airway")
    return "airway" if found and Path(found).samefile(called) else str(called)


def endpoint(text: str, default_host: str, default_port: int) -> tuple[str, int]:
    """``HOST:PORT`` as values; an empty text gives the defaults.

    Raises
    ------
    ValueError
        If the text is no HOST:PORT.
    """
    if not text:
        return default_host, default_port
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or default_host, int(port)
