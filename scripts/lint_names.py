# SPDX-License-Identifier: Apache-2.0
"""Lints what ruff cannot: names a room may not use, and the form every module must have.

Time and identifiers are arguments of the rooms that state and decide: a call that makes one there is a fault.
Run by ``make check`` and by ``tests/architecture``. Usage: lint_names.py [PROJECT_ROOT]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("profiles", "task_manager", "informatics_gateway", "ai_apps", "conformance")
CHECKED_FOLDERS = (*PACKAGES, "benchmarks", "deploy", "scripts", "tests")
PURE_ROOMS = ("profiles", "task_manager")
NOT_PURE = ("task_manager/store/", "task_manager/worker.py")

BANNED_NAMES = frozenset(
    {
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "time.time",
        "time.time_ns",
        "time.monotonic",
        "time.monotonic_ns",
        "time.perf_counter",
        "time.sleep",
        "uuid.uuid1",
        "uuid.uuid4",
        "pydicom.uid.generate_uid",
    }
)
BANNED_MODULES = frozenset(
    {
        "asyncio",
        "concurrent",
        "fastapi",
        "httpx",
        "multiprocessing",
        "pynetdicom",
        "random",
        "secrets",
        "selectors",
        "socket",
        "sqlalchemy",
        "sqlmodel",
        "ssl",
        "starlette",
        "subprocess",
        "threading",
    }
)
VAGUE_MODULE_NAMES = frozenset({"common", "helper", "helpers", "manager", "misc", "util", "utils"})
LICENCE_LINE = "# SPDX-License-Identifier: Apache-2.0"
LONGEST_MODULE_LINES = 500
LONGEST_DOCSTRING_LINES = 10
DRAWS_IN_ITS_DOCSTRING = frozenset({"task_manager/errors.py"})  # the tree of exceptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault of one module."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def lint(root: Path) -> list[Finding]:
    """Return every fault of every module below `root`, in path order."""
    findings: list[Finding] = []
    for folder in CHECKED_FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root).as_posix()
            findings += lint_module(relative, path.read_text(encoding="utf-8"))
    return findings


def lint_module(path: str, source: str) -> list[Finding]:
    """Return the faults of one module.

    Parameters
    ----------
    path : str
        Relative to the project root, with forward slashes; it decides which rules apply.
    source : str
        Text of the module.

    Raises
    ------
    SyntaxError
        When it is no Python.
    """
    tree = ast.parse(source, path)
    findings = list(_form_faults(path, source, tree))
    if is_pure(path):
        findings += _purity_faults(path, tree)
    return findings


def is_pure(path: str) -> bool:
    """Whether time and identifiers are arguments in this module."""
    return path.partition("/")[0] in PURE_ROOMS and not path.startswith(NOT_PURE)


def _form_faults(path: str, source: str, tree: ast.Module) -> Iterator[Finding]:
    lines = source.splitlines()
    if not lines or lines[0] != LICENCE_LINE:
        yield Finding(path=path, line=1, message=f"the first line is not {LICENCE_LINE!r}")
    if len(lines) > LONGEST_MODULE_LINES:
        yield Finding(
            path=path, line=len(lines), message=f"{len(lines)} lines; split at {LONGEST_MODULE_LINES}"
        )
    docstring = ast.get_docstring(tree)
    if tree.body and docstring is None:
        yield Finding(path=path, line=1, message="no module docstring")
    elif len((docstring or "").splitlines()) > LONGEST_DOCSTRING_LINES and path not in DRAWS_IN_ITS_DOCSTRING:
        yield Finding(
            path=path, line=2, message=f"the module docstring passes {LONGEST_DOCSTRING_LINES} lines"
        )
    parts = path.removesuffix(".py").split("/")
    for vague in sorted(VAGUE_MODULE_NAMES.intersection(parts)):
        yield Finding(path=path, line=1, message=f"{vague!r} names no thing: name the noun the module holds")


def _purity_faults(path: str, tree: ast.Module) -> Iterator[Finding]:
    names = _imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in _modules_of(node):
                if module.partition(".")[0] in BANNED_MODULES and not _is_future(node):
                    yield Finding(path=path, line=node.lineno, message=f"import of {module} is banned here")
        elif isinstance(node, ast.Attribute | ast.Name):
            dotted = _dotted(node, names)
            if dotted in BANNED_NAMES:
                yield Finding(
                    path=path, line=node.lineno, message=f"{dotted} is banned here: take an argument"
                )
        elif isinstance(node, ast.Call) and _dotted(node.func, names) == "highdicom.UID" and not node.args:
            yield Finding(path=path, line=node.lineno, message="highdicom.UID() makes a random UID")


def _is_future(node: ast.Import | ast.ImportFrom) -> bool:
    """A Future is a value, an answer to come; what runs it is banned."""
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "concurrent.futures"
        and [alias.name for alias in node.names] == ["Future"]
    )


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Map each name an import binds to what it stands for: ``dt`` to ``datetime``."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""]


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """Return what an expression names in full, or None when it does not start at an imported name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *reversed(parts)])


def main(arguments: list[str]) -> int:
    """Print every fault; return 1 when there is one."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1]
    findings = lint(root)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
