# SPDX-License-Identifier: Apache-2.0
"""Installed programs are found, and a missing one names the command that brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.peers.installed import PeerMissingError, find_file, find_program, node_script


def test_program_on_the_path_is_found() -> None:
    assert find_program("sh").name == "sh"


def test_missing_program_names_the_command_to_run() -> None:
    with pytest.raises(PeerMissingError, match="no-such-program is not installed; run: make peers"):
        find_program("no-such-program")


def test_last_matching_file_is_the_newest_version(tmp_path: Path) -> None:
    for version in ("15", "13"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()

    assert find_file("initdb", str(tmp_path), "*/bin/initdb").parts[-3] == "15"
    with pytest.raises(PeerMissingError, match="the other"):
        find_file("the other", str(tmp_path), "*/other")


def test_node_scripts_of_this_project_exist() -> None:
    assert node_script("fhir_server.mjs").is_file()
