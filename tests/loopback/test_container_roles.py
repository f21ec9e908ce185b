# SPDX-License-Identifier: Apache-2.0
"""The three processes of docker-compose.yml, with its own configurations, as processes of this machine.

They share a PostgreSQL database and the folder of objects, as the containers do; only ports and paths differ.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.peers.dcmtk import echoscu
from conformance.peers.postgresql import Postgresql
from conformance.peers.process import PeerProcess, free_port

pytestmark = pytest.mark.peers

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT_ROOT / "deploy"
ROLES = ("gateway", "task_manager", "performer")
is_healthy: Callable[[Path], bool] = runpy.run_path(str(DEPLOY / "healthcheck.py"))["is_healthy"]


def localised(name: str, folder: Path, *, database_url_file: Path, http_port: int) -> Path:
    """The configuration of a service with the ports and secrets of this machine."""
    settings: dict[str, Any] = yaml.safe_load((DEPLOY / f"{name}.yaml").read_text(encoding="utf-8"))
    if "database" in settings:
        settings["database"]["url_file"] = str(database_url_file)
        settings["gateway"]["http"]["port"] = http_port
        settings["gateway"]["dicom"]["port"] = settings["gateway"]["hl7"]["port"] = 0
    else:
        settings["performer"]["manager_url"] = f"http://127.0.0.1:{http_port}/dicom-web"
    path = folder / "airway.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql
) -> Iterator[dict[str, tuple[PeerProcess, Path]]]:
    home = tmp_path_factory.mktemp("containers")
    database_url_file = home / "database_url"
    database_url_file.write_text(postgresql.sqlalchemy_url(postgresql.create_database()), encoding="utf-8")
    (home / "objects").mkdir()
    http_port = free_port()
    program = Path(sys.executable).with_name("airway")
    running: dict[str, tuple[PeerProcess, Path]] = {}
    with ExitStack() as stack:
        for name in ROLES:
            folder, data = home / name, home / name / "data"
            data.mkdir(parents=True)
            if name != "performer":
                (data / "store").symlink_to(home / "objects")
            config = localised(name, folder, database_url_file=database_url_file, http_port=http_port)
            command = [program, "serve", "--data", data, "--config", config]
            process = stack.enter_context(PeerProcess(name, command, folder))
            running[name] = (process, data)
            if (
                name == "gateway"
            ):  # it brings the database to this release's schema, so the others wait for it
                process.wait_ready(partial(is_healthy, data), timeout_s=60)
        for process, data in running.values():
            process.wait_ready(partial(is_healthy, data), timeout_s=60)
        yield running


def test_each_service_says_that_it_is_ready(processes: dict[str, tuple[PeerProcess, Path]]) -> None:
    assert [name for name, (process, data) in processes.items() if process.running and is_healthy(data)] == [
        *ROLES
    ]


def test_only_the_gateway_opens_doors(processes: dict[str, tuple[PeerProcess, Path]]) -> None:
    announced = {name for name, (_, data) in processes.items() if (data / "endpoints.json").exists()}
    endpoints = json.loads((processes["gateway"][1] / "endpoints.json").read_text(encoding="utf-8"))

    assert announced == {"gateway"}
    assert set(endpoints) == {"pid", "http", "dicom", "hl7"}
    dicom = endpoints["dicom"]
    assert echoscu(dicom["host"], dicom["port"], called_ae_title=dicom["ae_title"]).succeeded


def test_each_service_drains_and_is_gone_when_asked_to_stop(
    processes: dict[str, tuple[PeerProcess, Path]],
) -> None:
    for process, data in reversed(processes.values()):
        process.stop(timeout_s=40)
        assert process.exit_status == 0, process.log_tail()
        assert not is_healthy(data)
