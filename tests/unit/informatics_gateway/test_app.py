# SPDX-License-Identifier: Apache-2.0
"""Putting the rooms together: what is left when a door cannot open."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from informatics_gateway.app import Application
from informatics_gateway.settings import DicomDoor, GatewaySettings, Hl7Door, HttpDoor, Role, Settings
from task_manager.errors import ConfigurationError


def test_a_door_that_cannot_open_leaves_nothing_open_or_announced(tmp_path: Path) -> None:
    announced = tmp_path / "endpoints.json"
    announced.write_text("{}")  # of a process that was killed
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        doors = GatewaySettings(
            http=HttpDoor(port=0), dicom=DicomDoor(port=0), hl7=Hl7Door(port=taken.getsockname()[1])
        )
        application = Application(Settings(roles=(Role.GATEWAY,), gateway=doors), tmp_path, None)
        with pytest.raises(ConfigurationError, match=r"gateway\.hl7: cannot listen"):
            application.start()
    assert not announced.exists()
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not {"hl7", "http", "dicom-listener"} & set(left)
