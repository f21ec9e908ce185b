# SPDX-License-Identifier: Apache-2.0
"""Who gets work, when, and what becomes of it if nobody does it: by both doors of a running task manager."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import UnifiedProcedureStepPush  # type: ignore[attr-defined]

from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.errors import GoneError, RefusedError
from conformance.peers.orthanc import Orthanc
from profiles.dicom_json import DicomJson, element, items, merged, text
from tests.contract.workitems import CT_IMAGE_STORAGE, code, instances, progress
from tests.flow.airway import RunningAirway
from tests.flow.site import Site, eventually
from tests.flow.studies import SentStudy, make_study

pytestmark = pytest.mark.peers

SILENCE_S = 2
INSTANCE_AVAILABILITY = "1.2.840.10008.5.1.4.33"
FOREIGN = code("V1", "99VENDOR", "Vendor's own task")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Site]:
    """A task manager with three performers, that asks an archive every second."""
    airway = RunningAirway(
        tmp_path_factory.mktemp("site"),
        {
            "roles": ["gateway", "task_manager"],
            "manager": {
                "performers": [
                    {"ae_title": "ONE", "capacity": 1},
                    {"ae_title": "TWO", "style": "triggered_pull", "capacity": 1},
                    {"ae_title": "GPU3", "by_name": False, "station_class": "GPU", "capacity": 1},
                ],
                "leases": {"silence_s": SILENCE_S, "tries": 2},
                "readiness": {"poll_s": 1, "archives": [{"name": "pacs", "url": orthanc.dicom_web_url}]},
            },
        },
    )
    airway.start()
    with Site(airway, "REQUESTER") as made:
        yield made
        assert made.patients_in_log() == []
    airway.stop()


def reject_by_dimse(site: Site, ae_title: str, uid: str) -> int:
    """Status of a cancel request with reason 110530."""
    code_ = Dataset()
    code_.CodeValue, code_.CodingSchemeDesignator = "110530", "DCM"
    code_.CodeMeaning = "Workitem assignment rejected by assigned resource"
    details = Dataset()
    details.RequestingAE = ae_title
    details.ReasonForCancellation = "not for me"
    details.ProcedureStepDiscontinuationReasonCodeSequence = [code_]
    status = dimse(
        site,
        ae_title,
        UnifiedProcedureStepPush,
        lambda association: association.send_n_action(details, 2, UnifiedProcedureStepPush, uid)[0],
    )
    return int(status.Status)


def dimse(site: Site, ae_title: str, sop_class: str, ask: Callable[..., Dataset]) -> Dataset:
    """The status of one request."""
    entity = AE(ae_title=ae_title)
    entity.add_requested_context(sop_class)
    door = site.airway.endpoints["dicom"]
    association = entity.associate(door["host"], door["port"], ae_title=door["ae_title"])
    assert association.is_established
    try:
        return ask(association)
    finally:
        association.release()


def test_work_is_shared_rejected_and_given_to_another_until_nobody_is_left(site: Site) -> None:
    asked = [site.create(ScheduledWorkitemCodeSequence=code()) for _ in range(4)]
    shared = [site.client.retrieve(uid) for uid in asked]
    classes = [bool(items(one, "ScheduledStationClassCodeSequence")) for one in shared]
    assert [site.stations(uid) for uid in asked] == [["ONE"], ["TWO"], [], []]
    assert classes == [False, False, True, False]
    first, _, third, waiting = asked

    with UpsRsClient(f"{site.http}/dicom-web", name="ONE") as one:
        site.do(first, lock=one.claim(first))
    assert site.stations(waiting) == ["ONE"]  # its bound lets it have another now

    assert reject_by_dimse(site, "GPU3", third) == 0
    assert site.state(third) == "SCHEDULED"
    for station in ("ONE", "TWO"):
        assert site.stations(third) == [station]
        assert reject_by_dimse(site, station, third) == 0

    assert site.state(third) == "CANCELED"
    assert site.reason(third) == ("110527", "every performer of this task rejected it")
    assert list(site.attention()) == [third]
    again = site.retry(third)
    assert site.attention() == {}
    assert site.state(again) == "SCHEDULED"


def test_a_silent_performer_is_replaced_then_a_person_decides(site: Site) -> None:
    uid = site.create(ScheduledWorkitemCodeSequence=FOREIGN)
    lock = site.client.claim(uid)

    site.wait_state(uid, "CANCELED")
    assert site.reason(uid) == ("110501", f"performer was not heard for {SILENCE_S} s")
    with pytest.raises(RefusedError):
        site.client.update(uid, progress(ProcedureStepProgress=10), transaction_uid=lock)
    second = site.status(uid)["replaced_by"]
    [replaced] = items(site.client.retrieve(second), "ReplacedProcedureStepSequence")
    assert text(replaced, "ReferencedSOPInstanceUID") == uid
    site.client.claim(second)
    site.wait_state(second, "CANCELED")
    assert site.attention() == {second: "given up after 2 tries"}

    third = site.retry(second)
    site.do(third)

    assert site.attention() == {}
    assert site.state(third) == "COMPLETED"


def test_urgent_work_comes_first_and_what_is_too_late_is_not_begun(site: Site) -> None:
    task = code("V2", "99VENDOR", "Another task")
    for priority in ("LOW", "HIGH", "MEDIUM", "HIGH"):
        site.create(ScheduledWorkitemCodeSequence=task, ScheduledProcedureStepPriority=priority)
    found = site.client.search({"ScheduledWorkitemCodeSequence.CodeValue": "V2"}).results
    assert [text(one, "ScheduledProcedureStepPriority") for one in found] == ["HIGH", "HIGH", "MEDIUM", "LOW"]

    soon = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y%m%d%H%M%S+0000")
    late = site.create(ScheduledWorkitemCodeSequence=task, ScheduledProcedureStepExpirationDateTime=soon)

    site.wait_state(late, "CANCELED")
    assert site.reason(late)[0] == "110533"


def reference(uid: str) -> DicomJson:
    """An item of Referenced SOP Sequence."""
    return merged(
        [element("ReferencedSOPClassUID", CT_IMAGE_STORAGE), element("ReferencedSOPInstanceUID", uid)]
    )


def store(site: Site, orthanc: Orthanc, study: SentStudy) -> None:
    """By STOW-RS, all but one instance first."""
    *most, last = study.files.values()
    for files in (most, [last]):
        parts = [b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() for file in files]
        answer = httpx.post(
            f"{site.http}/dicom-web/studies",
            content=b"\r\n".join([*parts, b"--b--\r\n"]),
            headers={
                "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
                "Accept": "application/dicom+json",
            },
            timeout=30,
        )
        assert answer.status_code == 200


def notify(site: Site, orthanc: Orthanc, study: SentStudy) -> None:
    """By RAD-49 of another archive."""
    series = Dataset()
    series.SeriesInstanceUID = series_of(study)
    series.ReferencedSOPSequence = []
    for uid in study.files:
        instance = Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = CT_IMAGE_STORAGE, uid
        instance.InstanceAvailability, instance.RetrieveAETitle = "ONLINE", "FAR_PACS"
        series.ReferencedSOPSequence.append(instance)
    told = Dataset()
    told.ReferencedPerformedProcedureStepSequence = []
    told.StudyInstanceUID = study.study_instance_uid
    told.ReferencedSeriesSequence = [series]
    status = dimse(
        site,
        "FAR_PACS",
        INSTANCE_AVAILABILITY,
        lambda association: association.send_n_create(told, INSTANCE_AVAILABILITY, generate_uid())[0],
    )
    assert status.Status == 0


def archive(site: Site, orthanc: Orthanc, study: SentStudy) -> None:
    """Into the archive that is asked."""
    for file in study.files.values():
        httpx.post(f"{orthanc.http_url}/instances", content=file.read_bytes(), timeout=30).raise_for_status()


def series_of(study: SentStudy) -> str:
    """Series Instance UID of its only series."""
    return str(dcmread(next(iter(study.files.values())), stop_before_pixels=True).SeriesInstanceUID)


ELSEWHERE = element("RetrieveAETitle", "ELSEWHERE")
OTHERWISE: dict[str, dict[str, Any]] = {
    "WADORSRetrievalSequence": {"WADORSRetrievalSequence": None, "DICOMRetrievalSequence": ELSEWHERE},
    "DICOMRetrievalSequence": {},
}
"""What the creator says of where inputs will be: not what is to be found out."""


@pytest.mark.parametrize(
    ("name", "bring", "place"),
    [
        pytest.param("stow", store, "WADORSRetrievalSequence", id="stored-here"),
        pytest.param("ian", notify, "DICOMRetrievalSequence", id="notified"),
        pytest.param("qido", archive, "WADORSRetrievalSequence", id="found-in-archive"),
    ],
)
def test_work_waits_for_its_inputs_and_says_where_they_are(
    site: Site,
    orthanc: Orthanc,
    tmp_path: Path,
    name: str,
    bring: Callable[[Site, Orthanc, SentStudy], None],
    place: str,
) -> None:
    study = make_study(tmp_path, name)
    wanted = merged(
        [
            instances(study=study.study_instance_uid, series=series_of(study), **OTHERWISE[place]),
            element("ReferencedSOPSequence", *(reference(uid) for uid in study.files)),
        ]
    )
    uid = site.create(InputReadinessState="UNAVAILABLE", InputInformationSequence=wanted)
    assert not site.is_ready(uid)

    bring(site, orthanc, study)

    eventually("inputs are ready", lambda: site.is_ready(uid))
    [told] = items(site.client.retrieve(uid), "InputInformationSequence")
    [where] = items(told, place)
    base = {"stow": f"{site.http}/dicom-web", "qido": orthanc.dicom_web_url.rstrip("/")}.get(name, "")
    address = f"{base}/studies/{study.study_instance_uid}/series/{series_of(study)}"
    assert (text(where, "RetrieveURL") or text(where, "RetrieveAETitle")) == (address if base else "FAR_PACS")


def test_final_work_is_deleted_in_time_unless_a_watcher_keeps_it(site: Site) -> None:
    old, kept = (site.create(ScheduledWorkitemCodeSequence=FOREIGN) for _ in range(2))
    for uid in (old, kept):
        site.do(uid)
    site.client.subscribe("KEEPER", kept, lock=True)
    site.airway.stop()
    with closing(sqlite3.connect(site.airway.data / "airway.db")) as database:
        database.execute("UPDATE workitem SET final_at = datetime(final_at, '-31 days')")
        database.commit()
    site.airway.start()

    def is_gone() -> bool:
        try:
            site.client.retrieve(old)
        except GoneError:
            return True
        return False

    eventually("the old workitem is deleted", is_gone)
    assert site.state(kept) == "COMPLETED"
