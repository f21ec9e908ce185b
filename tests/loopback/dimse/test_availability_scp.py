# SPDX-License-Identifier: Apache-2.0
"""Instance Availability Notifications over DIMSE (IHE RAD-49)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import INSTANCE_AVAILABILITY, PUSH
from profiles.dicom_json import DicomJson, items, text
from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from tests.instances import FolderIntake
from tests.loopback.dimse.ups_peer import connected


@dataclass
class Notified:
    """Keeps notifications, or answers as told."""

    taken: list[tuple[DicomJson, Actor]] = field(default_factory=list)
    answer: Refused | Exception | None = None

    def receive_availability(self, notification: DicomJson, *, actor: Actor) -> Accepted | Refused:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        self.taken.append((notification, actor))
        return Accepted()


@pytest.fixture
def intake() -> Notified:
    return Notified()


@pytest.fixture
def port(tmp_path: Any, intake: Notified) -> Iterator[int]:
    server = DimseServer(FolderIntake(tmp_path), availability=intake)
    server.start()
    try:
        yield server.port
    finally:
        server.stop(grace_s=1)


def notification() -> Dataset:
    instance, series, found = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    instance.ReferencedSOPInstanceUID = "1.2.3.4.5"
    instance.InstanceAvailability = "ONLINE"
    instance.RetrieveAETitle = "ARCHIVE"
    series.SeriesInstanceUID = "1.2.3.4"
    series.ReferencedSOPSequence = [instance]
    found.ReferencedPerformedProcedureStepSequence = []
    found.StudyInstanceUID = "1.2.3"
    found.ReferencedSeriesSequence = [series]
    return found


def notify(port: int, found: Dataset | None, uid: str | None = "1.2.3.99", **given: Any) -> Any:
    with connected(port, ae_title="ARCHIVE", classes=[INSTANCE_AVAILABILITY], **given) as scu:
        return scu.create(found, uid, named=INSTANCE_AVAILABILITY, context=INSTANCE_AVAILABILITY)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_notification_is_taken(port: int, intake: Notified, syntax: str) -> None:
    assert notify(port, notification(), syntaxes=[syntax]).status == 0x0000
    [(found, actor)] = intake.taken
    instance = items(items(found, "ReferencedSeriesSequence")[0], "ReferencedSOPSequence")[0]
    assert text(instance, "ReferencedSOPInstanceUID") == "1.2.3.4.5"
    assert (actor.door, actor.name) == ("dicom", "ARCHIVE")


def test_without_a_uid_one_is_made(port: int) -> None:
    told = notify(port, notification(), None)
    assert told.status == 0x0000
    assert told.command.AffectedSOPInstanceUID.startswith("2.25.")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Refused(RefusalCode.MISSING_ATTRIBUTE, (Fault("StudyInstanceUID", "is needed"),)), 0x0120),
        (Refused(RefusalCode.INVALID_ATTRIBUTES), 0x0106),
        (StoreError("disk"), 0x0213),
        (KeyError("bug"), 0x0110),
    ],
    ids=["missing", "invalid", "store", "bug"],
)
def test_refusals(port: int, intake: Notified, answer: Refused | Exception, status: int) -> None:
    intake.answer = answer
    assert notify(port, notification()).status == status


def test_another_class_is_told(port: int, intake: Notified) -> None:
    with connected(port, classes=[INSTANCE_AVAILABILITY]) as scu:
        for named in (PUSH, "1.2.3.4"):
            told = scu.create(notification(), "1.2.3.99", named=named, context=INSTANCE_AVAILABILITY)
            assert told.status == 0x0118
    assert intake.taken == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pydicom, at both ends
def test_a_malformed_uid_is_told(port: int) -> None:
    assert notify(port, notification(), "no uid").status == 0x0117


def test_what_is_not_wanted_is_not_offered(port: int) -> None:
    with connected(port, classes=[INSTANCE_AVAILABILITY, PUSH]) as scu:
        accepted = [str(one.abstract_syntax) for one in scu.association.accepted_contexts]
    assert accepted == [INSTANCE_AVAILABILITY]
