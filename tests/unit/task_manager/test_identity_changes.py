# SPDX-License-Identifier: Apache-2.0
"""Updates and merges of patients reach orders, waiting studies and work that is not final; all is audited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from informatics_gateway.api import story_json
from informatics_gateway.story_words import story_text
from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.patient import IdentityChange, IdentityKind, PatientIdentity, PriorReport
from profiles.sole.events import EventType
from task_manager.outbox import delivery_lane
from task_manager.outcome import Accepted, Refused, WarningCode
from task_manager.store import identities, orders, prior_reports
from task_manager.story import StudyStory
from tests.instances import STUDY, ct
from tests.service import PERFORMER, QUIET, TestBed
from tests.unit.task_manager.steps import KEY, LOCK, ORDER, RIS, complete, order, run_to_completed, workitem

NEW = PatientIdentity(patient_id="P1", name="Roe^Jane=山田^花", birth_date="19710203", sex="O")
UPDATE = IdentityChange(kind=IdentityKind.UPDATED, patient=NEW)
MERGE = IdentityChange(
    kind=IdentityKind.MERGED,
    patient=PatientIdentity(patient_id="P9", issuer="HOSP", name="Doe^Ann", birth_date="19600101"),
    former_id="P1",
)


def tell(
    bed: TestBed, *changes: IdentityChange, control_id: str = "I1", raw: bytes = b"MSH|"
) -> Accepted | Refused:
    key = replace(KEY, control_id=control_id)
    return bed.service.intake.receive_identities(list(changes), key=key, raw=raw, actor=RIS)


def story(bed: TestBed) -> StudyStory:
    found = bed.service.story(STUDY)
    assert found is not None
    return found


def attributes(bed: TestBed) -> DicomJson:
    found = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(found, Refused)
    return found


def patient(found: DicomJson) -> tuple[str, ...]:
    keywords = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
    return tuple(dicom_json.text(found, keyword) for keyword in keywords)


def two_images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))


def test_an_update_reaches_a_study_that_waits(bed: TestBed) -> None:
    two_images(bed)
    assert isinstance(tell(bed, UPDATE), Accepted)
    complete(bed)
    assert patient(attributes(bed)) == ("P1", "", "Roe^Jane", "19710203", "O")
    name = dicom_json.first(attributes(bed), "PatientName")
    assert name == {"Alphabetic": "Roe^Jane", "Ideographic": "山田^花"}


@pytest.mark.parametrize("begun", [False, True], ids=["SCHEDULED", "IN PROGRESS"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (UPDATE, ("P1", "", "Roe^Jane", "19710203", "O")),
        (MERGE, ("P9", "HOSP", "Doe^Ann", "19600101", "")),
    ],
    ids=["update", "merge"],
)
def test_changes_reach_work_that_is_not_final(
    bed: TestBed, begun: bool, change: IdentityChange, expected: tuple[str, ...]
) -> None:
    order(bed)
    two_images(bed)
    complete(bed)
    uid = workitem(bed).uid
    if begun:
        bed.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    tell(bed, change)
    assert workitem(bed).uid == uid
    assert patient(attributes(bed)) == expected
    assert bed.service.scheduler.complete_due_studies() == 0


def test_final_work_stays_as_it_is(bed: TestBed) -> None:
    uid = run_to_completed(bed)
    before = patient(attributes(bed))
    tell(bed, MERGE)
    assert workitem(bed).uid == uid
    assert patient(attributes(bed)) == before


def test_results_are_delivered_for_the_survivor(bed: TestBed) -> None:
    uid = run_to_completed(bed)
    job = bed.service.claim_job(delivery_lane("emr"), worker="W", lease=QUIET)
    assert job is not None
    assert job.workitem_uid == uid
    assert bed.service.deliveries.shipment(job, "emr").patient is None
    tell(bed, MERGE)
    survivor = bed.service.deliveries.shipment(job, "emr").patient
    assert survivor is not None
    assert (survivor.patient_id, survivor.issuer, survivor.name) == ("P9", "HOSP", "Doe^Ann")


def test_a_merge_moves_open_orders_and_studies(bed: TestBed) -> None:
    order(bed)
    tell(bed, MERGE)
    two_images(bed)
    complete(bed)
    found = attributes(bed)
    assert patient(found)[:3] == ("P9", "HOSP", "Doe^Ann")
    request = dicom_json.items(found, "ReferencedRequestSequence")[0]
    assert dicom_json.text(request, "PlacerOrderNumberImagingServiceRequest") == "PL1"


def test_what_comes_under_the_former_id_is_of_the_survivor(bed: TestBed) -> None:
    two_images(bed)
    complete(bed)
    tell(bed, MERGE)
    order(bed)
    with bed.database.read() as connection:
        key = orders.known_order_key(connection, ORDER)
        assert key is not None
        kept = orders.order_by_key(connection, key)
    assert kept is not None
    assert (kept.patient_id, kept.issuer_of_patient_id) == ("P9", "HOSP")
    bed.receive(ct(3, SeriesInstanceUID=f"{STUDY}.77", SOPInstanceUID=f"{STUDY}.77.1"))
    complete(bed)
    text = story_text(story(bed))
    assert "images of 2 patients" not in text
    assert patient(attributes(bed))[:2] == ("P9", "HOSP")


def test_images_of_both_ids_under_one_study_are_one_patients_after_the_merge(bed: TestBed) -> None:
    two_images(bed)
    bed.receive(ct(3, PatientID="P9", SeriesInstanceUID=f"{STUDY}.77", SOPInstanceUID=f"{STUDY}.77.1"))
    tell(bed, MERGE)
    complete(bed)
    assert workitem(bed).state == "SCHEDULED"


def test_merges_in_a_row_lead_to_the_last(bed: TestBed) -> None:
    two_images(bed)
    tell(bed, MERGE)
    again = IdentityChange(
        kind=IdentityKind.MERGED,
        patient=PatientIdentity(patient_id="P10", issuer="HOSP"),
        former_id="P9",
        former_issuer="HOSP",
    )
    tell(bed, again, control_id="I2")
    complete(bed)
    assert patient(attributes(bed))[:2] == ("P10", "HOSP")
    with bed.database.read() as connection:
        found = identities.current_identity(connection, "P1", "")
    assert found is not None
    assert found.patient_id == "P10"


def test_a_merge_that_is_turned_round_ends(bed: TestBed) -> None:
    tell(bed, MERGE)
    back = IdentityChange(
        kind=IdentityKind.MERGED,
        patient=PatientIdentity(patient_id="P1"),
        former_id="P9",
        former_issuer="HOSP",
    )
    tell(bed, back, control_id="I2")
    with bed.database.read() as connection:
        ends = [
            identities.current_identity(connection, one, issuer)
            for one, issuer in (("P1", ""), ("P9", "HOSP"))
        ]
    assert [end.patient_id for end in ends if end] == ["P1", "P1"]


def merge(former: str, survivor: str, *, former_issuer: str = "HOSP", name: str = "") -> IdentityChange:
    return IdentityChange(
        kind=IdentityKind.MERGED,
        patient=PatientIdentity(patient_id=survivor, issuer="HOSP", name=name),
        former_id=former,
        former_issuer=former_issuer,
    )


def now_is(bed: TestBed, patient_id: str, issuer: str = "") -> tuple[str, str]:
    with bed.database.read() as connection:
        found = identities.current_identity(connection, patient_id, issuer)
    assert found is not None
    return found.patient_id, found.issuer


@pytest.mark.parametrize("second_issuer", ["HOSP", ""])
@pytest.mark.parametrize("together", [False, True], ids=["two messages", "one message"])
def test_merges_in_a_row_reach_work_in_any_order(bed: TestBed, second_issuer: str, together: bool) -> None:
    two_images(bed)
    complete(bed)
    in_a_row = [merge("P1", "P9"), merge("P9", "P10", former_issuer=second_issuer)]
    if together:
        tell(bed, *in_a_row)
    else:
        for number, change in enumerate(reversed(in_a_row)):
            tell(bed, change, control_id=f"I{number}")
    assert now_is(bed, "P1") == now_is(bed, "P9", "HOSP") == ("P10", "HOSP")
    assert patient(attributes(bed))[:2] == ("P10", "HOSP")
    tell(bed, merge("P1", "P9"), control_id="again")
    assert now_is(bed, "P1") == now_is(bed, "P9", "HOSP") == ("P10", "HOSP")


def test_a_late_update_of_a_former_id_undoes_no_merge(bed: TestBed) -> None:
    two_images(bed)
    tell(bed, MERGE)
    tell(bed, UPDATE, control_id="I2")
    assert now_is(bed, "P1") == ("P9", "HOSP")
    complete(bed)
    assert patient(attributes(bed))[:3] == ("P9", "HOSP", "Doe^Ann")
    assert story(bed).told.identities[-1].fields == ""


def test_a_long_chain_of_merges_leads_to_its_end(bed: TestBed) -> None:
    for number in range(1, 41):
        tell(bed, merge(f"P{number}", f"P{number + 1}"), control_id=f"I{number}")
    assert now_is(bed, "P1", "HOSP") == ("P41", "HOSP")


def test_work_of_the_former_id_gets_the_name_the_survivor_is_known_by(bed: TestBed) -> None:
    tell(bed, merge("P0", "P9", name="Doe^Ann"))
    two_images(bed)
    complete(bed)
    tell(bed, merge("P1", "P9", former_issuer=""), control_id="I2")
    assert patient(attributes(bed))[:3] == ("P9", "HOSP", "Doe^Ann")


def test_a_merge_into_the_same_number_of_another_issuer(bed: TestBed) -> None:
    order(bed, replace(ORDER, issuer_of_patient_id="A"))
    for number in (1, 2):
        bed.receive(ct(number, IssuerOfPatientID="A"))
    complete(bed)
    tell(bed, merge("P1", "P1", former_issuer="A"))
    assert patient(attributes(bed))[:2] == ("P1", "HOSP")
    with bed.database.read() as connection:
        kept = orders.order_by_key(connection, "PL1")
    assert kept is not None
    assert kept.issuer_of_patient_id == "HOSP"


@pytest.mark.parametrize(
    "change",
    [
        IdentityChange(kind=IdentityKind.UPDATED, patient=replace(NEW, issuer="B")),
        merge("P1", "P9", former_issuer="B"),
    ],
    ids=["update", "merge"],
)
def test_images_without_issuer_of_an_id_that_orders_of_two_issuers_use_are_left_alone(
    bed: TestBed, change: IdentityChange
) -> None:
    order(bed, replace(ORDER, issuer_of_patient_id="A"))
    other = replace(ORDER, issuer_of_patient_id="B", placer_order_number="PL2", filler_order_number="FI2")
    order(bed, replace(other, accession_number="A2", study_instance_uid=""), "M2")
    two_images(bed)
    report(bed, replace(REPORT, issuer_of_patient_id="B"), "O1")
    complete(bed)
    before = patient(attributes(bed))
    tell(bed, change)
    assert patient(attributes(bed)) == before
    assert story(bed).told.priors == ()
    bed.receive(ct(3))
    complete(bed)
    assert patient(attributes(bed)) == before


def test_what_an_unheard_of_issuer_tells_does_not_reach_images_of_anothers_order(bed: TestBed) -> None:
    order(bed, replace(ORDER, issuer_of_patient_id="A"))
    two_images(bed)
    complete(bed)
    before = patient(attributes(bed))
    tell(bed, merge("P1", "P9", former_issuer="B"))
    assert patient(attributes(bed)) == before
    assert bed.service.scheduler.complete_due_studies() == 0
    assert patient(story(bed).study.attributes)[0] == "P1"


def test_another_issuers_patient_with_the_same_id_is_left_alone(bed: TestBed) -> None:
    order(bed, replace(ORDER, issuer_of_patient_id="A", patient_name="Old^Name"))
    tell(bed, IdentityChange(kind=IdentityKind.UPDATED, patient=replace(NEW, issuer="B")))
    with bed.database.read() as connection:
        kept = orders.order_by_key(connection, "PL1")
    assert kept is not None
    assert kept.patient_name == "Old^Name"


def test_an_id_that_two_issuers_share_is_nobodys_without_its_issuer(bed: TestBed) -> None:
    order(bed)
    for index, issuer in enumerate(("A", "B")):
        tell(
            bed,
            IdentityChange(
                kind=IdentityKind.UPDATED, patient=replace(NEW, issuer=issuer, name=f"Of^{issuer}")
            ),
            control_id=f"I{index}",
        )
    two_images(bed)
    with bed.database.read() as connection:
        assert identities.current_identity(connection, "P1", "") is None


def test_an_update_of_a_patient_nobody_knows_is_not_kept(bed: TestBed) -> None:
    assert isinstance(tell(bed, UPDATE), Accepted)
    with bed.database.read() as connection:
        assert identities.current_identity(connection, "P1", "") is None


def test_a_visit_changes_nothing(bed: TestBed) -> None:
    order(bed)
    tell(bed, IdentityChange(kind=IdentityKind.VISIT, patient=NEW))
    with bed.database.read() as connection:
        kept = orders.order_by_key(connection, "PL1")
    assert kept is not None
    assert kept.patient_name == ""


def test_deleted_demographics_go(bed: TestBed) -> None:
    two_images(bed)
    cleared = PatientIdentity(patient_id="P1", cleared=("birth_date",))
    tell(bed, IdentityChange(kind=IdentityKind.UPDATED, patient=cleared))
    complete(bed)
    assert dicom_json.text(attributes(bed), "PatientBirthDate") == ""


def test_changes_are_audited_and_explained(bed: TestBed) -> None:
    two_images(bed)
    complete(bed)
    tell(bed, UPDATE)
    tell(bed, MERGE, control_id="I2")
    told = [
        (event.type, event.patient_id, event.former_patient_id, event.machine)
        for event in story(bed).events
        if event.type in (EventType.PATIENT_UPDATED, EventType.PATIENT_MERGED)
    ]
    assert told == [
        (EventType.PATIENT_UPDATED, "P1", "", "AIRWAY"),
        (EventType.PATIENT_MERGED, "P9", "P1", "AIRWAY"),
    ]
    text = story_text(story(bed))
    assert "updated to P1 (name, birth_date, sex) by RIS" in text
    assert "merged from P1 to P9 (name, birth_date) by RIS" in text
    for name in ("Roe", "Doe", "19710203"):
        assert name not in text


def test_the_same_message_again_changes_nothing(bed: TestBed) -> None:
    two_images(bed)
    tell(bed, MERGE)
    assert tell(bed, MERGE) == Accepted(uid="I1", warnings=(WarningCode.DUPLICATE,))
    assert len(story(bed).told.identities) == 1
    assert isinstance(tell(bed, MERGE, raw=b"MSH|other"), Refused)


REPORT = PriorReport(
    report_number="F7",
    patient_id="P1",
    description="CT Chest",
    status="P",
    text="Lungs clear for Roe.",
)


def report(bed: TestBed, content: PriorReport, control_id: str) -> None:
    key = replace(KEY, control_id=control_id)
    outcome = bed.service.intake.receive_reports([content], key=key, raw=b"MSH|", actor=RIS)
    assert isinstance(outcome, Accepted)


def test_prior_reports_are_context_of_the_patient(bed: TestBed) -> None:
    two_images(bed)
    report(bed, REPORT, "O1")
    report(bed, replace(REPORT, status="F"), "O2")
    report(bed, replace(REPORT, report_number="F8", patient_id="P2"), "O3")
    assert [(one.report_number, one.status) for one in story(bed).told.priors] == [("F7", "F")]
    text = story_text(story(bed))
    assert "prior      no date CT Chest (F)" in text
    assert "Lungs clear" not in text


def test_what_was_told_is_in_the_api(bed: TestBed) -> None:
    order(bed)
    two_images(bed)
    complete(bed)
    report(bed, replace(REPORT, status="F"), "O1")
    tell(bed, UPDATE, control_id="I2")
    told = story_json(story(bed))["told"]
    assert [(one["control"], one["effect"]) for one in told["orders"]] == [("NW", "kept for images to come")]
    (identity,) = told["identities"]
    assert (identity["kind"], identity["changed"]) == ("updated", ["name", "birth_date", "sex"])
    (prior,) = told["priors"]
    assert (prior["report_number"], prior["status"], prior["observed_at"]) == ("F7", "F", None)
    assert "Roe" not in str(told)


def test_withdrawn_reports_are_no_context(bed: TestBed) -> None:
    two_images(bed)
    report(bed, REPORT, "O1")
    report(bed, replace(REPORT, status="X"), "O2")
    assert story(bed).told.priors == ()


def test_an_older_version_of_a_report_that_comes_late_does_not_count(bed: TestBed) -> None:
    two_images(bed)
    report(bed, replace(REPORT, status="F", reported_at=bed.clock()), "O1")
    report(bed, replace(REPORT, status="P", reported_at=bed.clock() - QUIET), "O2")
    assert [one.status for one in story(bed).told.priors] == ["F"]
    report(bed, replace(REPORT, status="C", reported_at=bed.clock() + QUIET), "O3")
    assert [one.status for one in story(bed).told.priors] == ["C"]


def test_reports_follow_a_merge(bed: TestBed) -> None:
    report(bed, REPORT, "O1")
    tell(bed, MERGE)
    report(bed, replace(REPORT, report_number="F8"), "O2")
    with bed.database.read() as connection:
        found = prior_reports.reports_of_patient(connection, "P9", "HOSP")
    assert [kept.report.report_number for kept in found] == ["F7", "F8"]
    assert {kept.report.patient_id for kept in found} == {"P9"}
