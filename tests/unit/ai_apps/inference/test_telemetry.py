# SPDX-License-Identifier: Apache-2.0
"""Running a model leaves nothing in the home folder and tells nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LOAD = (
    "from ai_apps.catalog import catalog; from ai_apps.inference.onnx_session import OnnxSession; "
    "OnnxSession(catalog()['lung-ct'].model)"
)


def test_no_telemetry_is_kept_or_sent(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", LOAD], check=True, env=environment, timeout=120)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
