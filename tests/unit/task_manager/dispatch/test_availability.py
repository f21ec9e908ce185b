# SPDX-License-Identifier: Apache-2.0
"""Instance Availability Notifications: what they must say, and that they are kept (PS3.4 R.3.2.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from profiles.dicom_json import DicomJson, element, items, merged, tag_key
from task_manager.actor import Actor
from task_manager.dispatch.availability import StoredAvailability, told_availability
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store.availability import Availability, available, put_availability
from task_manager.store.database import Database
from tests.service import START, Clock

PACS = Actor(door="dicom", name="PACS1")
SERIES = "1.2.3.4"


def reference(number: int = 1, **given: Any) -> DicomJson:
    """An item of Referenced SOP Sequence; `given` replaces by keyword, None leaves out."""
    content = {
        "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "ReferencedSOPInstanceUID": f"{SERIES}.{number}",
        "InstanceAvailability": "ONLINE",
        "RetrieveAETitle": "PACS1",
        **given,
    }
    return merged(element(keyword, value) for keyword, value in content.items() if value is not None)


def notification(*references: DicomJson) -> DicomJson:
    """A whole notification."""
    series = merged(
        [
            element("SeriesInstanceUID", SERIES),
            element("ReferencedSOPSequence", *(references or (reference(),))),
        ]
    )
    return merged(
        [
            element("ReferencedPerformedProcedureStepSequence"),
            element("StudyInstanceUID", "1.2.3"),
            element("ReferencedSeriesSequence", series),
        ]
    )


def test_what_a_notification_says() -> None:
    told = told_availability(
        notification(
            reference(1), reference(2, InstanceAvailability="OFFLINE", RetrieveURL="http://p.test/x")
        ),
        source="ian:PACS1",
        now=START,
    )

    assert told == [
        Availability(
            sop_instance_uid=f"{SERIES}.1",
            source="ian:PACS1",
            availability="ONLINE",
            told_at=START,
            retrieve_ae_title="PACS1",
        ),
        Availability(
            sop_instance_uid=f"{SERIES}.2",
            source="ian:PACS1",
            availability="OFFLINE",
            told_at=START,
            retrieve_ae_title="PACS1",
            retrieve_url="http://p.test/x",
        ),
    ]


def _without(keyword: str) -> Callable[[], DicomJson]:
    return lambda: {tag: value for tag, value in notification().items() if tag != tag_key(keyword)}


_REFERENCE = "ReferencedSeriesSequence[0].ReferencedSOPSequence[0]"


@pytest.mark.parametrize(
    ("made", "code", "paths"),
    [
        pytest.param(_without("StudyInstanceUID"), "missing-attribute", ["StudyInstanceUID"], id="1/1-study"),
        pytest.param(
            _without("ReferencedPerformedProcedureStepSequence"),
            "missing-attribute",
            ["ReferencedPerformedProcedureStepSequence"],
            id="2/2-performed-steps",
        ),
        pytest.param(
            _without("ReferencedSeriesSequence"),
            "missing-attribute",
            ["ReferencedSeriesSequence"],
            id="1/1-series",
        ),
        pytest.param(
            lambda: {**notification(), **element("ReferencedSeriesSequence")},
            "missing-value",
            ["ReferencedSeriesSequence"],
            id="no-series",
        ),
        pytest.param(
            lambda: notification(reference(RetrieveAETitle=None, InstanceAvailability="SOON")),
            "invalid-attributes",
            [f"{_REFERENCE}.InstanceAvailability", f"{_REFERENCE}.RetrieveAETitle"],
            id="all-faults-at-once",
        ),
        pytest.param(
            lambda: notification(reference(ReferencedSOPInstanceUID="")),
            "missing-value",
            [f"{_REFERENCE}.ReferencedSOPInstanceUID"],
            id="empty-instance",
        ),
        pytest.param(lambda: {"0020000D": 7}, "invalid-attributes", None, id="hostile-json"),
        pytest.param(dict, "missing-attribute", None, id="nothing"),
    ],
)
def test_what_a_notification_lacks_is_told(
    made: Callable[[], DicomJson], code: str, paths: list[str] | None
) -> None:
    outcome = told_availability(made(), source="ian:PACS1", now=START)

    assert isinstance(outcome, Refused)
    assert outcome.code == RefusalCode(code)
    assert outcome.faults
    assert paths is None or sorted(fault.path for fault in outcome.faults) == paths


def test_performed_steps_are_checked_where_there_are_any() -> None:
    step = merged([element("ReferencedSOPClassUID", "1.2.840.10008.3.1.2.3.3")])
    content = {**notification(), **element("ReferencedPerformedProcedureStepSequence", step)}

    outcome = told_availability(content, source="ian:PACS1", now=START)

    assert isinstance(outcome, Refused)
    assert [fault.path for fault in outcome.faults] == [
        "ReferencedPerformedProcedureStepSequence[0].ReferencedSOPInstanceUID"
    ]
    assert items(content, "ReferencedSeriesSequence")


def test_the_last_word_of_each_source_counts(database: Database) -> None:
    clock, woken = Clock(), []
    door = StoredAvailability(database.write, clock=clock, told=lambda: woken.append(1))

    assert door.receive_availability(notification(reference(1), reference(2)), actor=PACS) == Accepted()
    clock.pass_(1)
    door.receive_availability(notification(reference(2, InstanceAvailability="UNAVAILABLE")), actor=PACS)
    clock.pass_(1)
    door.receive_availability(
        notification(reference(1, RetrieveAETitle="OTHER", InstanceAvailability="NEARLINE")),
        actor=Actor(door="dicom", name="OTHER"),
    )

    with database.read() as connection:
        found = available(connection, [f"{SERIES}.{number}" for number in (1, 2, 3)])
    assert [(one.source, one.availability) for one in found[f"{SERIES}.1"]] == [
        ("ian:OTHER", "NEARLINE"),
        ("ian:PACS1", "ONLINE"),
    ]
    assert set(found) == {f"{SERIES}.1"}
    assert len(woken) == 3


def test_a_refused_notification_changes_nothing_and_wakes_nobody(database: Database) -> None:
    woken: list[int] = []
    door = StoredAvailability(database.write, clock=Clock(), told=lambda: woken.append(1))

    assert isinstance(door.receive_availability({}, actor=PACS), Refused)

    assert woken == []


def test_many_instances_at_once(database: Database) -> None:
    told = [
        Availability(sop_instance_uid=f"1.2.{n}", source="s", availability="ONLINE", told_at=START)
        for n in range(2500)
    ]
    with database.write() as connection:
        put_availability(connection, told)
        put_availability(connection, told[:3])

    with database.read() as connection:
        assert len(available(connection, [one.sop_instance_uid for one in told])) == 2500
