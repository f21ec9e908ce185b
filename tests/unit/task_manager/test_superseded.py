# SPDX-License-Identifier: Apache-2.0
"""Work that late images have made pointless is withdrawn, or its performer is asked to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from profiles.dicom_json import DicomJson, items, text
from profiles.order import Priority
from task_manager.dispatch.model import WorkitemTemplate
from task_manager.outcome import Accepted, Refused
from task_manager.scheduling import AppOffer
from task_manager.store import reports
from tests.instances import STUDY, ct, ct_data_set, part10
from tests.service import APPS, PERFORMER, TestBed, make_service
from tests.unit.task_manager.steps import LOCK, complete, workitem

RULES = """
rules:
  - name: ct-alone
    app: lung-ct
    when: {not: {ModalitiesInStudy: PT}}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
"""


def pet() -> bytes:
    """An image that keeps the rule from matching."""
    found = ct_data_set(
        9, SOPClassUID="1.2.840.10008.5.1.4.1.1.128", Modality="PT", SeriesInstanceUID=f"{STUDY}.8"
    )
    found.SOPInstanceUID = f"{STUDY}.8.9"
    return part10(found)


def asked(folder: Path, apps: Mapping[str, AppOffer] = APPS) -> TestBed:
    """A study with a workitem that waits."""
    bed = make_service(folder, rules=RULES, apps=apps)
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    return bed


def attributes(bed: TestBed, uid: str) -> DicomJson:
    found = bed.service.worklist.retrieve_workitem(uid)
    assert not isinstance(found, Refused)
    return found


def events(bed: TestBed, uid: str) -> list[int]:
    with bed.database.read() as connection:
        return [event for event, _, _, _ in reports.reports_of(connection, uid)]


def claim(bed: TestBed, uid: str) -> None:
    claimed = bed.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(claimed, Accepted)


@pytest.mark.parametrize(
    ("late", "states"),
    [
        pytest.param(ct(3), ["CANCELED", "SCHEDULED"], id="newer-images"),
        pytest.param(pet(), ["CANCELED"], id="the-rule-no-longer-matches"),
    ],
)
def test_waiting_work_is_withdrawn(tmp_path: Path, late: bytes, states: list[str]) -> None:
    bed = asked(tmp_path)

    bed.receive(late)
    complete(bed)

    story = bed.service.story(STUDY)
    assert story is not None
    assert [one.state for one in story.workitems] == states


@pytest.mark.parametrize(
    ("late", "number"),
    [pytest.param(ct(3), 2, id="newer-images"), pytest.param(pet(), 1, id="the-rule-no-longer-matches")],
)
def test_who_works_on_it_is_asked_to_stop_once(tmp_path: Path, late: bytes, number: int) -> None:
    bed = asked(tmp_path)
    uid = workitem(bed).uid
    claim(bed, uid)

    bed.receive(late)
    complete(bed)
    bed.receive(ct(4))
    complete(bed)

    story = bed.service.story(STUDY)
    assert story is not None
    assert text(attributes(bed, uid), "ProcedureStepState") == "IN PROGRESS"
    assert events(bed, uid).count(2) == 1
    assert sum(one.state != "CANCELED" for one in story.workitems) == number


def test_work_that_was_asked_to_stop_does_not_keep_a_rule_that_matches_again_from_asking(
    tmp_path: Path,
) -> None:
    rules = RULES.replace("{not: {ModalitiesInStudy: PT}}", "{NumberOfStudyRelatedSeries: [1, 3]}")
    bed = make_service(tmp_path, rules=rules)
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)
    uid = workitem(bed).uid
    claim(bed, uid)
    bed.receive(pet())
    complete(bed)
    assert events(bed, uid).count(2) == 1

    another = ct_data_set(8, Modality="PT", SeriesInstanceUID=f"{STUDY}.9")
    another.SOPInstanceUID = f"{STUDY}.9.8"
    bed.receive(part10(another))
    complete(bed)

    story = bed.service.story(STUDY)
    assert story is not None
    assert [one.state for one in story.workitems] == ["IN PROGRESS", "SCHEDULED"]


def test_work_says_what_the_template_of_its_app_says(tmp_path: Path) -> None:
    template = WorkitemTemplate(
        priority=Priority.LOW,
        label="Lungs",
        worklist_label="CHEST",
        station_class="GPU",
        expected=timedelta(minutes=10),
        expires=timedelta(hours=4),
    )
    bed = asked(tmp_path, {"lung-ct": replace(APPS["lung-ct"], template=template)})
    made = attributes(bed, workitem(bed).uid)

    assert text(made, "ScheduledProcedureStepPriority") == "LOW"
    assert (text(made, "ProcedureStepLabel"), text(made, "WorklistLabel")) == ("Lungs", "CHEST")
    assert text(items(made, "ScheduledStationClassCodeSequence")[0], "CodeValue") == "GPU"
    start = bed.clock.now
    expected, expires = start + timedelta(minutes=10), start + timedelta(hours=4)
    assert text(made, "ExpectedCompletionDateTime").startswith(f"{expected:%Y%m%d%H%M%S}")
    assert text(made, "ScheduledProcedureStepExpirationDateTime").startswith(f"{expires:%Y%m%d%H%M%S}")
