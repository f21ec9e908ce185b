# SPDX-License-Identifier: Apache-2.0
"""A manager and archive on loopback: our UPS-RS door over a worklist in memory, beside a stand-in archive."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import uvicorn
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from conformance.peers.archive import create_app
from conformance.peers.archive_files import ArchiveFiles
from informatics_gateway.dicomweb.ups_rs import router
from profiles import dicom_json
from profiles.codes import Code
from profiles.dicom_json import DicomJson
from profiles.order import Priority
from profiles.uids import derived_uid
from task_manager.actor import Actor
from task_manager.outcome import Accepted
from task_manager.study.model import Instance, Study, StudyState
from task_manager.workitem.aiw_i import InferenceRequest, inference_workitem
from task_manager.workitem.memory import MemoryWorklist

REQUESTER = Actor(door="dicomweb", name="REQUESTER")
TASK = Code("AW1001", "99AIRWAY", "Lung CT quantification")
NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
DEADLINE_S = 30.0


@dataclass(slots=True)
class Manager:
    """The running pair.

    `refuse` gives the status that a request (method, path) is refused with, 0 for none; `seen` are all
    requests that came.
    """

    base_url: str
    worklist: MemoryWorklist
    archive: ArchiveFiles
    refuse: Callable[[str, str], int] = lambda method, path: 0
    seen: list[tuple[str, str]] = field(default_factory=list)

    def add_images(self, count: int = 3) -> list[Instance]:
        """Store a small series and return it as the task manager knows it."""
        instances = []
        for number in range(1, count + 1):
            data_set = Dataset()
            data_set.file_meta = FileMetaDataset()
            data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data_set.SOPClassUID = CTImageStorage
            data_set.SOPInstanceUID = f"1.2.3.4.{number}"
            data_set.StudyInstanceUID = "1.2.3"
            data_set.SeriesInstanceUID = "1.2.3.4"
            data_set.PatientID = "P-1"
            data_set.Modality = "CT"
            data_set.PixelData = bytes(range(256)) * number
            data_set["PixelData"].VR = "OB"
            self.archive.store(_part10(data_set))
            instances.append(
                Instance(
                    sop_instance_uid=data_set.SOPInstanceUID,
                    sop_class_uid=CTImageStorage,
                    series_instance_uid="1.2.3.4",
                    study_instance_uid="1.2.3",
                    transfer_syntax_uid=ExplicitVRLittleEndian,
                    instance_number=number,
                    path="",
                    size=0,
                    received_at=NOW,
                    attributes={},
                )
            )
        return instances

    def add_workitem(
        self,
        name: str = "one",
        *,
        behaviour: str = "finish",
        priority: Priority = Priority.MEDIUM,
        station: str = "",
        instances: list[Instance] | None = None,
    ) -> str:
        """Create a workitem over the images; its UID."""
        uid = derived_uid("test-workitem", name)
        request = InferenceRequest(
            label="lung-ct 1",
            worklist_label="AI",
            code=TASK,
            station_ae=station,
            priority=priority,
            study=Study(
                study_instance_uid="1.2.3",
                state=StudyState.COMPLETE,
                revision=1,
                attributes=dicom_json.element("PatientID", "P-1"),
                series=(),
                first_received_at=NOW,
                last_received_at=NOW,
                deadline_at=None,
            ),
            order=None,
            instances=self.add_images() if instances is None else instances,
            wado_base_url=self.base_url,
            output_stow_url=f"{self.base_url}/studies",
            scheduled_at=NOW,
            parameters={"behaviour": behaviour},
        )
        outcome = self.worklist.create_workitem(uid, inference_workitem(request), actor=REQUESTER)
        assert isinstance(outcome, Accepted), outcome
        return uid

    def workitem(self, uid: str) -> DicomJson:
        """The workitem as it is."""
        found = self.worklist.find(uid)
        assert found is not None
        return found.attributes

    def state(self, uid: str) -> str:
        """Its state."""
        return dicom_json.text(self.workitem(uid), "ProcedureStepState")

    def progress(self, uid: str) -> DicomJson:
        """The item of its progress sequence."""
        return dicom_json.items(self.workitem(uid), "ProcedureStepProgressInformationSequence")[0]

    def stored(self) -> list[str]:
        """SOP Class UIDs of the results in the archive."""
        found = [str(each.header.SOPClassUID) for each in self.archive.select()]
        return sorted(uid for uid in found if uid != CTImageStorage)


def _part10(data_set: Dataset) -> bytes:
    out = BytesIO()
    data_set.save_as(out, enforce_file_format=True)
    return out.getvalue()


@contextmanager
def run_manager(folder: Path) -> Iterator[Manager]:
    """Serve a manager on a free port of 127.0.0.1."""
    files = ArchiveFiles(folder)
    worklist = MemoryWorklist(lambda: datetime.now(UTC))
    app = create_app(files)
    app.include_router(router(worklist))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(32)
        manager = Manager(
            base_url=f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web",
            worklist=worklist,
            archive=files,
        )

        async def door(scope: object, receive: object, send: Callable[[object], object]) -> None:
            assert isinstance(scope, dict)
            manager.seen.append((scope["method"], scope["path"]))
            status = manager.refuse(scope["method"], scope["path"])
            if status:
                start = {"type": "http.response.start", "status": status, "headers": []}
                await send(start)  # type: ignore[misc]
                await send({"type": "http.response.body", "body": b""})  # type: ignore[misc]
                return
            await app(scope, receive, send)  # type: ignore[arg-type]

        server = uvicorn.Server(uvicorn.Config(door, log_level="warning", access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield manager
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


def wait_for(condition: Callable[[], object]) -> None:
    """Poll until `condition` holds, for at most `DEADLINE_S`."""
    ends = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < ends, "waited too long"
        pause.wait(0.01)
