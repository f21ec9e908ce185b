# SPDX-License-Identifier: Apache-2.0
"""A service that fetches from a real archive, with its own DICOM port and worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from informatics_gateway.dimse.send import send_folder
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.settings import Settings
from task_manager.fetching.archives import StudyArchive
from task_manager.fetching.model import FetchState, FetchStatus
from task_manager.fetching.performing import FetchLimits
from task_manager.worker import Worker
from tests.service import RULES, TestBed, make_service

DEADLINE_S = 20.0
_T = TypeVar("_T")


def settings_for(archive: Any, door_port: int, *, retrieve: str, by_web: bool) -> Settings:
    """Settings with Orthanc as the one archive."""
    entry: dict[str, Any] = {"name": "pacs", "retrieve": retrieve, "timeout_s": 10, "silence_s": 10}
    if by_web:
        entry["url"] = archive.dicom_web_url
    if retrieve != "wado":
        entry["ae_title"] = archive.ae_title
    peer = {"ae_title": archive.ae_title, "host": archive.host, "port": archive.dicom_port}
    return Settings.model_validate(
        {
            "gateway": {"peers": [peer], "dicom": {"port": door_port, "ae_title": "AIRWAY"}},
            "fetch": {"archives": [entry]},
        }
    )


def send(archive: Any, folder: Path, files: Sequence[bytes]) -> None:
    """C-STORE files to the archive."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(content)
    send_folder([folder], host=archive.host, port=archive.dicom_port, called_ae_title=archive.ae_title)


@dataclass
class Site:
    """A running task manager with its DICOM port."""

    bed: TestBed
    server: DimseServer

    def wait(self, key: str, *states: FetchState) -> FetchStatus:
        """Where a fetch stands once it is in one of `states`."""
        return wait_for(self, lambda: self._status(key, states))

    def _status(self, key: str, states: tuple[FetchState, ...]) -> FetchStatus | None:
        status = self.bed.service.fetches.status(key)
        return status if status is not None and status.fetch.state in states else None

    def files(self, study: str) -> list[bytes]:
        """The bytes kept of a study."""
        archive = self.bed.service.archive
        found = archive.find_instances(study_instance_uid=study)
        return [archive.open_path(one).read_bytes() for one in found]


def wait_for(site: Site, look: Callable[[], _T | None]) -> _T:
    """What `look` finds, asked again until a deadline."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / 0.05)):
        found = look()
        if found is not None:
            return found
        pause.wait(0.05)
    raise AssertionError(f"not in time: {site.bed.service.fetches.newest()}")


@contextmanager
def running(
    folder: Path,
    archives: Callable[[int], Sequence[StudyArchive]],
    *,
    port: int = 0,
    rules: str = RULES,
    limits: FetchLimits | None = None,
) -> Iterator[Site]:
    """A service whose port is open and whose worker runs."""
    folder.mkdir(parents=True, exist_ok=True)
    several = archives(port)
    woken: list[Worker] = []
    bed = make_service(
        folder,
        rules=rules,
        study_archives=several,
        fetching=limits,
        wake=lambda: [worker.wake() for worker in woken] and None,
    )
    server = DimseServer(bed.service.intake, port=port)
    server.start()
    worker = Worker(bed.service, {}, {}, name="test", clock=bed.clock)
    worker.start()
    woken.append(worker)
    try:
        yield Site(bed, server)
    finally:
        worker.stop()
        server.stop(grace_s=0.2)
        for archive in several:
            archive.close()
        bed.database.close()
