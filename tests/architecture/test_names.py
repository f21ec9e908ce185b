# SPDX-License-Identifier: Apache-2.0
"""Banned names and the form of modules: the tree is clean, and the lint finds each thing it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.lint import PROJECT_ROOT, load_lint

lint = load_lint()
HEAD = '# SPDX-License-Identifier: Apache-2.0\n"""What lives here."""\n'


def messages(path: str, body: str) -> list[str]:
    return [finding.message for finding in lint.lint_module(path, HEAD + body)]


def test_every_module_of_the_project_is_clean() -> None:
    assert [str(finding) for finding in lint.lint(PROJECT_ROOT)] == []


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("from datetime import datetime\nx = datetime.now()\n", "datetime.datetime.now"),
        ("import datetime as dt\nx = dt.datetime.utcnow()\n", "datetime.datetime.utcnow"),
        ("import datetime\nx = datetime.date.today()\n", "datetime.date.today"),
        ("import time\nx = time.time()\n", "time.time"),
        ("from time import monotonic as tick\nx = tick()\n", "time.monotonic"),
        ("import uuid\nx = uuid.uuid4()\n", "uuid.uuid4"),
        ("from uuid import uuid4\nmakers = [uuid4]\n", "uuid.uuid4"),
        ("from pydicom.uid import generate_uid\nx = generate_uid()\n", "pydicom.uid.generate_uid"),
        ("import pydicom\nx = pydicom.uid.generate_uid()\n", "pydicom.uid.generate_uid"),
    ],
)
@pytest.mark.parametrize("path", ["profiles/ups/states.py", "task_manager/service.py"])
def test_making_time_or_identifiers_is_found_in_the_pure_rooms(path: str, body: str, name: str) -> None:
    assert messages(path, body) == [f"{name} is banned here: take an argument"]


@pytest.mark.parametrize(
    ("body", "module"),
    [
        ("import threading\n", "threading"),
        ("import asyncio.subprocess\n", "asyncio.subprocess"),
        ("from socket import socket\n", "socket"),
        ("from pynetdicom import AE\n", "pynetdicom"),
        ("from fastapi import FastAPI\n", "fastapi"),
        ("from starlette.requests import Request\n", "starlette.requests"),
        ("import httpx\n", "httpx"),
        ("from sqlmodel import Session\n", "sqlmodel"),
        ("def f() -> None:\n    import threading\n", "threading"),
    ],
)
def test_protocols_and_threads_are_found_in_the_pure_rooms(body: str, module: str) -> None:
    assert messages("task_manager/study/assembly.py", body) == [f"import of {module} is banned here"]


def test_random_uid_of_highdicom_is_found_and_a_given_one_is_not() -> None:
    body = "import highdicom as hd\na = hd.UID()\nb = hd.UID('1.2.3')\n"

    assert messages("profiles/air/seg.py", body.replace("hd.UID()", "highdicom.UID()")) == []
    assert messages("profiles/air/seg.py", body.replace(" as hd", "").replace("hd.", "highdicom.")) == [
        "highdicom.UID() makes a random UID"
    ]
    assert messages("profiles/air/seg.py", body) == ["highdicom.UID() makes a random UID"]


@pytest.mark.parametrize(
    "path",
    [
        "task_manager/store/database.py",
        "task_manager/worker.py",
        "informatics_gateway/app.py",
        "ai_apps/performer/loop.py",
        "conformance/peers/process.py",
        "tests/unit/test_x.py",
    ],
)
def test_other_rooms_may_read_the_clock(path: str) -> None:
    assert messages(path, "import time\nimport threading\nx = time.time()\n") == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            "def now() -> int:\n    return 1\n\n\ntime = now()\nuuid4 = time\n",
            id="own-names-that-look-alike",
        ),
        pytest.param("from datetime import datetime\nx = datetime(2026, 5, 4)\n", id="a-given-time"),
        pytest.param("from uuid import UUID\nx = UUID(int=1)\n", id="a-given-identifier"),
    ],
)
def test_values_that_are_given_are_no_fault(body: str) -> None:
    assert messages("profiles/uids.py", body) == []


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        pytest.param("ai_apps/a.py", '"""Doc."""\n', "SPDX", id="no-licence"),
        pytest.param("ai_apps/a.py", "", "SPDX", id="empty-file"),
        pytest.param(
            "ai_apps/a.py", "# SPDX-License-Identifier: Apache-2.0\nx = 1\n", "docstring", id="no-docstring"
        ),
        pytest.param("ai_apps/a.py", HEAD + "x = 1\n" * 500, "502 lines", id="too-long"),
        pytest.param(
            "ai_apps/a.py",
            '# SPDX-License-Identifier: Apache-2.0\n"""A\n' + "b\n" * 10 + '"""\n',
            "passes 10 lines",
            id="docstring-too-long",
        ),
        pytest.param("ai_apps/utils.py", HEAD, "'utils'", id="vague-module"),
        pytest.param("ai_apps/common/x.py", HEAD, "'common'", id="vague-folder"),
        pytest.param("ai_apps/manager.py", HEAD, "'manager'", id="manager-module"),
    ],
)
def test_ill_formed_module_is_found(path: str, source: str, words: str) -> None:
    [finding] = lint.lint_module(path, source)

    assert words in finding.message


def test_package_that_holds_only_its_licence_is_well_formed() -> None:
    assert lint.lint_module("ai_apps/__init__.py", "# SPDX-License-Identifier: Apache-2.0\n") == []


def test_command_prints_faults_and_says_so_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "clock.py").write_text(HEAD + "import threading\n", encoding="utf-8")

    assert lint.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "profiles/clock.py:3: import of threading is banned here\n"
    (tmp_path / "profiles" / "clock.py").unlink()
    assert lint.main([str(tmp_path)]) == 0
