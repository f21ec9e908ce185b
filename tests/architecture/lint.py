# SPDX-License-Identifier: Apache-2.0
"""The lint of ``scripts/lint_names.py`` as a module: scripts are no package, so it is loaded by its path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def load_lint() -> ModuleType:
    """Return the lint, loaded once."""
    name = "airway_lint_names"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PROJECT_ROOT / "scripts" / "lint_names.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
