# SPDX-License-Identifier: Apache-2.0
"""The machine and the programs of a run, so that nobody compares figures of different ones."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pynetdicom

from conformance.peers.dcmtk import run_tool
from conformance.peers.installed import postgresql_program
from conformance.peers.orthanc import Orthanc


def describe_machine(folder: Path) -> dict[str, Any]:
    """Cores, model, memory, load, system, file system of `folder`, Python and the libraries that matter."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "model": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file_system": _file_system(folder),
        "python": platform.python_version(),
        "libraries": {
            "pydicom": pydicom.__version__,
            "pynetdicom": pynetdicom.__version__,
            "highdicom": highdicom.__version__,
            "numpy": np.__version__,
            "sqlite": sqlite3.sqlite_version,
        },
    }


def describe_peers(orthanc: Orthanc) -> dict[str, str]:
    """Versions of the peers that were measured with."""
    told = run_tool("storescu", ["--version"], timeout_s=20).output
    dcmtk = re.search(r"v(\d+\.\d+\.\d+)", told)
    return {
        "orthanc": str(orthanc.rest("/system")["Version"]),
        "dcmtk": dcmtk.group(1) if dcmtk else "unknown",
    }


def postgresql_version() -> str:
    """Version of the PostgreSQL server that was measured with."""
    told = subprocess.run(
        [postgresql_program("postgres"), "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\d+(\.\d+)*", told)
    return found.group(0) if found else "unknown"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", information.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    told = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(folder)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"
