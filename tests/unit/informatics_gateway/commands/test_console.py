# SPDX-License-Identifier: Apache-2.0
"""What is printed can be typed: addresses as people write them, and our own name as they called us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from informatics_gateway.commands.console import endpoint

PROGRAM = Path(sys.executable).parent / "airway"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("127.0.0.1", 11112)),
        ("10.0.0.1:104", ("10.0.0.1", 104)),
        (":104", ("127.0.0.1", 104)),
        ("[::1]:104", ("::1", 104)),
        ("pacs.example.org:0", ("pacs.example.org", 0)),
    ],
    ids=["nothing", "both", "port", "IPv6", "any port"],
)
def test_an_endpoint(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text, "127.0.0.1", 11112) == expected


@pytest.mark.parametrize("text", ["pacs", "pacs:", "pacs:dicom", "pacs:65536", "pacs:-1"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        endpoint(text, "127.0.0.1", 11112)


@pytest.mark.parametrize(
    ("called", "on_path", "printed"),
    [
        pytest.param(str(PROGRAM), False, str(PROGRAM), id="by path"),
        pytest.param(str(PROGRAM), True, "airway", id="on the search path"),
        pytest.param("/x/__main__.py", True, f"{sys.executable} -m informatics_gateway", id="as a module"),
    ],
)
def test_the_next_command_is_told_as_this_one_was_called(called: str, on_path: bool, printed: str) -> None:
    folders = "/usr/bin:/bin"
    code = "import sys; from informatics_gateway.commands.console import program\n"
    code += "sys.argv[0] = sys.argv[1]; print(program())"
    done = subprocess.run(
        [sys.executable, "-c", code, called],
        env={**os.environ, "PATH": f"{PROGRAM.parent}:{folders}" if on_path else folders},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{printed}\n"
