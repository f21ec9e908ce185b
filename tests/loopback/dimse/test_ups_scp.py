# SPDX-License-Identifier: Apache-2.0
"""The worklist over DIMSE, service by service and status by status (PS3.4 Annex CC)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import EVENT, PULL, PUSH, QUERY, WATCH
from profiles.dicom_json import DicomJson, element, first, merged, tag_key, text
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.errors import StoreError
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW, code, minimal, performed, progress, request
from tests.contract.worklist import ACTOR, LOCK, UID, attributes_of, bring_to, state_of
from tests.loopback.dimse.ups_peer import RememberedSubscriptions, Stage, UpsScu, connected, ups_port

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
MALFORMED_UIDS = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pydicom, at both ends
STATE, LABEL = 0x00741000, 0x00741204


WORKLIST, SUBSCRIPTIONS = Stage(), Stage()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DimseServer]:
    with ups_port(tmp_path_factory.mktemp("port"), WORKLIST, subscriptions=SUBSCRIPTIONS) as server:
        yield server


@pytest.fixture(autouse=True)
def worklist() -> MemoryWorklist:
    WORKLIST.actor = MemoryWorklist(lambda: NOW)
    return WORKLIST.actor


@pytest.fixture(autouse=True)
def subscriptions() -> RememberedSubscriptions:
    SUBSCRIPTIONS.actor = RememberedSubscriptions()
    return SUBSCRIPTIONS.actor


@pytest.fixture
def scu(port: DimseServer) -> Iterator[UpsScu]:
    with connected(port.port) as peer:
        yield peer


def keys(**given: Any) -> Dataset:
    identifier = Dataset()
    for keyword, value in given.items():
        setattr(identifier, keyword, value)
    return identifier


class TestCreate:
    @pytest.mark.parametrize(
        "syntax",
        [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
        ids=lambda uid: uid.name,
    )
    def test_what_is_created_is_kept_as_over_http(
        self, port: DimseServer, worklist: MemoryWorklist, syntax: str
    ) -> None:
        wanted = minimal(PatientName="Ömür^Çelik", ReferencedRequestSequence=request(), PregnancyStatus=4)
        with connected(port.port, syntaxes=[syntax]) as scu:
            told = scu.create(wanted, UID)
        assert (told.status, told.command.AffectedSOPInstanceUID) == (0x0000, UID)
        kept = attributes_of(worklist)
        over_http = MemoryWorklist(lambda: NOW)
        bring_to(over_http, "SCHEDULED")
        assert text(kept, "PatientName") == "Ömür^Çelik"
        assert first(kept, "PregnancyStatus") == 4
        for tag in attributes_of(over_http):
            assert tag in kept

    def test_without_a_uid_one_is_made_and_told(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        told = scu.create(minimal())
        made = str(told.command.AffectedSOPInstanceUID)
        assert told.status == 0x0000
        assert state_of(worklist, made) == "SCHEDULED"

    def test_a_made_uid_is_told_with_a_warning_too(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        told = scu.create(minimal(WorklistLabel=()))
        assert told.status == 0xB300
        assert state_of(worklist, str(told.command.AffectedSOPInstanceUID)) == "SCHEDULED"

    @pytest.mark.parametrize(
        ("given", "status", "comment"),
        [
            (
                {"ProcedureStepState": "IN PROGRESS"},
                0xC309,
                "ProcedureStepState: must be SCHEDULED at create",
            ),
            ({"ProcedureStepLabel": None}, 0x0120, "ProcedureStepLabel"),
            ({"ProcedureStepLabel": ()}, 0x0121, "ProcedureStepLabel"),
            ({"ScheduledProcedureStepPriority": "URGENT"}, 0x0106, "ScheduledProcedureStepPriority"),
            ({"TransactionUID": "2.25.9"}, 0x0106, "TransactionUID"),
        ],
    )
    def test_refusals_tell_the_place(
        self, scu: UpsScu, worklist: MemoryWorklist, given: dict[str, Any], status: int, comment: str
    ) -> None:
        told = scu.create(minimal(**given), UID)
        assert told.status == status
        assert comment in told.command.ErrorComment
        assert worklist.find(UID) is None

    def test_all_faults_are_told_at_once_and_no_value(self, scu: UpsScu) -> None:
        told = scu.create(
            minimal(ProcedureStepLabel=None, InputReadinessState=None, PatientName="Secret^Name"), UID
        )
        assert told.status == 0x0120
        assert told.command.ErrorComment == "2 faults: ProcedureStepLabel, InputReadinessState"

    def test_a_uid_is_created_once(self, scu: UpsScu) -> None:
        assert scu.create(minimal(), UID).status == 0x0000
        assert scu.create(minimal(), UID).status == 0x0111

    @MALFORMED_UIDS
    @pytest.mark.parametrize("uid", ["2.25.01", "no uid"], ids=["leading zero", "text"])
    def test_a_malformed_uid_is_told(self, scu: UpsScu, uid: str) -> None:
        assert scu.create(minimal(), uid).status == 0x0117

    @pytest.mark.parametrize("uid", [GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID])
    def test_a_well_known_uid_is_no_workitem(self, scu: UpsScu, uid: str) -> None:
        assert scu.create(minimal(), uid).status == 0x0106

    def test_nothing_at_all_misses_everything(self, scu: UpsScu) -> None:
        told = scu.create(None, UID)
        assert told.status == 0x0120
        assert "faults" in told.command.ErrorComment


class TestSet:
    def test_scheduled_without_a_transaction_uid(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "SCHEDULED")
        assert scu.set(UID, keys(ProcedureStepLabel="Later")).status == 0x0000
        assert text(attributes_of(worklist), "ProcedureStepLabel") == "Later"

    def test_in_progress_with_it(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "IN PROGRESS")
        changes = merged([performed(), element("TransactionUID", LOCK)])
        assert scu.set(UID, changes).status == 0x0000
        assert scu.state(UID, "COMPLETED", LOCK).status == 0x0000

    @pytest.mark.parametrize(
        ("state", "transaction_uid", "status"),
        [
            ("SCHEDULED", LOCK, 0xC310),
            ("IN PROGRESS", "", 0xC301),
            ("IN PROGRESS", "2.25.77", 0xC301),
            ("COMPLETED", LOCK, 0xC300),
            ("CANCELED", LOCK, 0xC300),
        ],
    )
    def test_rights(
        self, scu: UpsScu, worklist: MemoryWorklist, state: str, transaction_uid: str, status: int
    ) -> None:
        bring_to(worklist, state)
        changes = keys(ProcedureStepLabel="Later")
        if transaction_uid:
            changes.TransactionUID = transaction_uid
        assert scu.set(UID, changes).status == status
        assert text(attributes_of(worklist), "ProcedureStepLabel") == "Lung analysis"

    def test_faults_are_listed_as_attributes(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "SCHEDULED")
        told = scu.set(UID, keys(PatientSex="F", ProcedureStepState="COMPLETED"))
        assert told.status == 0x0106
        assert told.command.AttributeIdentifierList == [0x00100040, 0x00741000]
        assert told.command.ErrorComment == "2 faults: PatientSex, ProcedureStepState"

    def test_its_own_identity_does_no_harm(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "SCHEDULED")
        changes = keys(SOPClassUID=PUSH, SOPInstanceUID=UID, ProcedureStepLabel="Later")
        assert scu.set(UID, changes).status == 0x0000

    @MALFORMED_UIDS
    @pytest.mark.parametrize("uid", ["2.25.404", "no uid"])
    def test_an_unknown_workitem(self, scu: UpsScu, uid: str) -> None:
        assert scu.set(uid, keys(ProcedureStepLabel="Later")).status == 0xC307


class TestGet:
    def test_all_but_the_transaction_uid(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "IN PROGRESS")
        told = scu.get(UID)
        assert told.status == 0x0000
        assert told.data_set is not None
        assert told.data_set.ProcedureStepState == "IN PROGRESS"
        assert told.data_set.ScheduledProcedureStepPriority == "MEDIUM"
        assert "TransactionUID" not in told.data_set
        assert "SOPInstanceUID" not in told.data_set
        assert (told.command.AffectedSOPClassUID, told.command.AffectedSOPInstanceUID) == (PUSH, UID)

    @pytest.mark.parametrize("context", [PUSH, PULL, WATCH], ids=["Push", "Pull", "Watch"])
    def test_what_was_asked_for(self, scu: UpsScu, worklist: MemoryWorklist, context: str) -> None:
        bring_to(worklist, "SCHEDULED")
        told = scu.get(UID, [STATE, LABEL, 0x00404021], context=context)
        assert told.status == 0x0000
        assert told.data_set is not None
        assert [int(one.tag) for one in told.data_set] == [0x00404021, STATE, LABEL]

    def test_text_is_told_in_unicode(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        worklist.create_workitem(UID, minimal(PatientName="Ōkubo^Jirō"), actor=ACTOR)
        told = scu.get(UID, [0x00100010, 0x00080005])
        assert told.data_set is not None
        assert told.data_set.SpecificCharacterSet == "ISO_IR 192"
        assert told.data_set.PatientName == "Ōkubo^Jirō"

    @pytest.mark.parametrize("tag", [0x00081195, 0x00280010], ids=["TransactionUID", "Rows"])
    def test_what_is_not_supported_is_a_warning(
        self, scu: UpsScu, worklist: MemoryWorklist, tag: int
    ) -> None:
        bring_to(worklist, "IN PROGRESS")
        told = scu.get(UID, [STATE, tag])
        assert told.status == 0x0001
        assert told.command.AttributeIdentifierList == tag
        assert told.data_set is not None
        assert [int(one.tag) for one in told.data_set] == [STATE]

    @MALFORMED_UIDS
    @pytest.mark.parametrize("uid", ["2.25.404", "no uid"])
    def test_an_unknown_workitem(self, scu: UpsScu, uid: str) -> None:
        assert scu.get(uid).status == 0xC307


class TestActions:
    def test_a_life(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "SCHEDULED")
        assert scu.state(UID, "IN PROGRESS", LOCK).status == 0x0000
        told = scu.action(UID, 2, progress_reason(), context=WATCH)
        assert told.status == 0x0000
        assert worklist.find(UID).cancel_requested.requesting_ae == "WATCHER"  # type: ignore[union-attr]
        assert scu.state(UID, "CANCELED", LOCK).status == 0x0000
        assert scu.state(UID, "CANCELED", LOCK).status == 0xB304

    def test_final_state_rules_are_told(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "IN PROGRESS")
        told = scu.state(UID, "COMPLETED", LOCK)
        assert told.status == 0xC304
        assert "UnifiedProcedureStepPerformedProcedureSequence" in told.command.ErrorComment

    @pytest.mark.parametrize(
        ("details", "status"),
        [
            (keys(TransactionUID=LOCK), 0x0120),
            (keys(TransactionUID=LOCK, ProcedureStepState=""), 0x0121),
            (keys(TransactionUID=LOCK, ProcedureStepState="DONE"), 0x0106),
            (keys(ProcedureStepState="IN PROGRESS"), 0xC301),
            (keys(ProcedureStepState="IN PROGRESS", TransactionUID=""), 0xC301),
            (keys(ProcedureStepState="IN PROGRESS", TransactionUID=["2.25.1", "2.25.2"]), 0xC301),
            (None, 0x0120),
        ],
        ids=["no state", "empty state", "other state", "no UID", "empty UID", "two UIDs", "nothing"],
    )
    def test_action_information(
        self, scu: UpsScu, worklist: MemoryWorklist, details: Dataset | None, status: int
    ) -> None:
        bring_to(worklist, "SCHEDULED")
        assert scu.action(UID, 1, details).status == status
        assert state_of(worklist) == "SCHEDULED"

    @MALFORMED_UIDS
    @pytest.mark.parametrize("uid", ["2.25.404", "no uid"])
    def test_an_unknown_workitem(self, scu: UpsScu, uid: str) -> None:
        assert scu.state(uid, "IN PROGRESS", LOCK).status == 0xC307
        assert scu.action(uid, 2, None, context=PUSH).status == 0xC307

    @pytest.mark.parametrize(
        ("context", "allowed"),
        [(PUSH, {2}), (PULL, {1}), (WATCH, {2, 3, 4, 5}), (QUERY, set()), (EVENT, set())],
        ids=["Push", "Pull", "Watch", "Query", "Event"],
    )
    def test_each_class_has_its_actions(
        self, scu: UpsScu, worklist: MemoryWorklist, context: str, allowed: set[int]
    ) -> None:
        bring_to(worklist, "SCHEDULED")
        wrong = 0x0123 if allowed else 0x0211
        for number in range(8):
            told = scu.action(UID, number, keys(), context=context)
            assert (told.status != wrong) == (number in allowed), number


def progress_reason() -> DicomJson:
    return element("ReasonForCancellation", "no longer needed")


def subscription(ae: str | None = "WATCHER", lock: str | None = "FALSE", **more: Any) -> Dataset:
    given = keys(**more)
    if ae is not None:
        given.ReceivingAE = ae
    if lock is not None:
        given.DeletionLock = lock
    return given


class TestSubscriptions:
    def test_subscribe_tells_how_the_ae_listens(
        self, scu: UpsScu, subscriptions: RememberedSubscriptions
    ) -> None:
        assert scu.action(UID, 3, subscription("OTHER", "TRUE"), context=WATCH).status == 0x0000
        target, ae, lock, matching, channel, actor = subscriptions.asked[0]
        assert (target, ae, lock, matching, channel) == (UID, "OTHER", True, {}, Channel.DIMSE)
        assert (actor.door, actor.name, actor.called) == ("dicom", "WATCHER", "AIRWAY")

    def test_a_filter_is_read_as_keys(self, scu: UpsScu, subscriptions: RememberedSubscriptions) -> None:
        given = subscription(WorklistLabel="AI*")
        target = FILTERED_GLOBAL_SUBSCRIPTION_UID
        assert scu.action(target, 3, given, context=WATCH).status == 0x0000
        assert text(subscriptions.asked[0][3], "WorklistLabel") == "AI*"
        assert tag_key("ReceivingAE") not in subscriptions.asked[0][3]

    def test_a_filter_that_cannot_be_matched(self, scu: UpsScu) -> None:
        given = subscription(TransactionUID=LOCK)
        assert scu.action(FILTERED_GLOBAL_SUBSCRIPTION_UID, 3, given, context=WATCH).status == 0x0106

    def test_a_lock_not_granted_is_a_warning(
        self, scu: UpsScu, subscriptions: RememberedSubscriptions
    ) -> None:
        subscriptions.accepted = Accepted(warnings=(WarningCode.LOCK_NOT_GRANTED,))
        assert scu.action(UID, 3, subscription(lock="TRUE"), context=WATCH).status == 0xB301

    @pytest.mark.parametrize(
        ("refusal", "status"),
        [
            (RefusalCode.NO_SUCH_INSTANCE, 0xC307),
            (RefusalCode.NO_LONGER_HERE, 0xC307),
            (RefusalCode.UNKNOWN_RECEIVING_AE, 0xC308),
            (RefusalCode.NOT_APPROPRIATE, 0xC314),
            (RefusalCode.EVENTS_NOT_SUPPORTED, 0xC315),
            (RefusalCode.NOT_AUTHORIZED, 0x0124),
        ],
    )
    def test_refusals(
        self, scu: UpsScu, subscriptions: RememberedSubscriptions, refusal: RefusalCode, status: int
    ) -> None:
        subscriptions.refusal = Refused(refusal)
        assert scu.action(UID, 3, subscription(), context=WATCH).status == status

    @pytest.mark.parametrize(
        ("number", "details", "status"),
        [
            (3, subscription(ae=None), 0x0120),
            (3, subscription(lock=None), 0x0120),
            (3, subscription(ae=""), 0x0121),
            (3, subscription(lock=""), 0x0121),
            (3, subscription(lock="YES"), 0x0106),
            (4, subscription(ae=None, lock=None), 0x0120),
            (5, subscription(ae="", lock=None), 0x0121),
        ],
    )
    def test_action_information(self, scu: UpsScu, number: int, details: Dataset, status: int) -> None:
        assert scu.action(GLOBAL_SUBSCRIPTION_UID, number, details, context=WATCH).status == status

    @pytest.mark.parametrize("number", [4, 5], ids=["unsubscribe", "suspend"])
    def test_ending_what_is_not_there_is_a_success(
        self, scu: UpsScu, subscriptions: RememberedSubscriptions, number: int
    ) -> None:
        ask = subscription(lock=None)
        assert scu.action(GLOBAL_SUBSCRIPTION_UID, number, ask, context=WATCH).status == 0x0000
        scu.action(GLOBAL_SUBSCRIPTION_UID, 3, subscription(), context=WATCH)
        assert scu.action(GLOBAL_SUBSCRIPTION_UID, number, ask, context=WATCH).status == 0x0000
        assert subscriptions.current == set()

    def test_without_subscriptions_there_are_no_events(
        self, tmp_path: Path, worklist: MemoryWorklist
    ) -> None:
        with ups_port(tmp_path / "other", worklist) as server, connected(server.port) as scu:
            assert scu.action(UID, 3, subscription(), context=WATCH).status == 0xC315


class TestFind:
    @pytest.fixture(autouse=True)
    def three(self, worklist: MemoryWorklist) -> None:
        for number, priority in enumerate(("LOW", "HIGH", "MEDIUM")):
            given = minimal(
                ScheduledProcedureStepPriority=priority,
                PatientName=f"Patient{number}^Ä",
                ScheduledStationNameCodeSequence=code(f"PERF{number}", "L", "Performer"),
                ReferencedRequestSequence=request(AccessionNumber=f"A{number}"),
                ScheduledProcedureStepStartDateTime=f"2026030{number + 1}120000+0000",
            )
            assert isinstance(worklist.create_workitem(f"2.25.{number}", given, actor=ACTOR), Accepted)

    @pytest.mark.parametrize(
        "syntax",
        [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
        ids=lambda uid: uid.name,
    )
    @pytest.mark.parametrize("model", [PULL, WATCH, QUERY], ids=["Pull", "Watch", "Query"])
    def test_universal_keys_find_all_in_order(self, port: DimseServer, model: str, syntax: str) -> None:
        asked = keys(SOPClassUID="", SOPInstanceUID="", ScheduledProcedureStepPriority="", PatientName="")
        with connected(port.port, syntaxes=[syntax]) as scu:
            found = scu.find(asked, model=model)
        assert [status for status, _ in found] == [0xFF00] * 3 + [0x0000]
        answers = [one for _, one in found if one is not None]
        assert [one.ScheduledProcedureStepPriority for one in answers] == ["HIGH", "MEDIUM", "LOW"]
        assert {str(one.SOPClassUID) for one in answers} == {PUSH}
        assert [str(one.PatientName) for one in answers] == ["Patient1^Ä", "Patient2^Ä", "Patient0^Ä"]
        assert {len(one) for one in answers} == {5}  # what was asked for, and the character set

    @pytest.mark.parametrize(
        ("given", "found"),
        [
            ({"SOPInstanceUID": "2.25.1"}, {"1"}),
            ({"SOPInstanceUID": ["2.25.1", "2.25.2", "2.25.9"]}, {"1", "2"}),
            ({"ScheduledProcedureStepPriority": "LOW", "ProcedureStepState": "SCHEDULED"}, {"0"}),
            ({"PatientName": "patient?^*"}, {"0", "1", "2"}),
            ({"PatientName": "Patient2*"}, {"2"}),
            ({"ScheduledProcedureStepStartDateTime": "20260302-20260303"}, {"1", "2"}),
            ({"ScheduledProcedureStepStartDateTime": "-20260301"}, {"0"}),
            ({"ScheduledProcedureStepStartDateTime": "20260302120000+0000-"}, {"1", "2"}),
            (
                {"ScheduledProcedureStepStartDateTime": "20260302130000", "TimezoneOffsetFromUTC": "+0100"},
                {"1"},
            ),
            ({"ScheduledProcedureStepStartDateTime": "20260302130000"}, set()),
            ({"WorklistLabel": "none"}, set()),
            ({"PatientBirthDate": "19700101"}, set()),
        ],
        ids=str,
    )
    def test_keys(self, scu: UpsScu, given: dict[str, Any], found: set[str]) -> None:
        answers = scu.find(keys(**{"SOPInstanceUID": "", **given}))
        assert answers[-1] == (0x0000, None)
        assert {str(one.SOPInstanceUID)[5:] for _, one in answers if one is not None} == found

    def test_sequence_keys_match_and_are_told(self, scu: UpsScu) -> None:
        station, order = keys(CodeValue="PERF1", CodingSchemeDesignator=""), keys(AccessionNumber="A*")
        found = scu.find(keys(ScheduledStationNameCodeSequence=[station], ReferencedRequestSequence=[order]))
        assert [status for status, _ in found] == [0xFF00, 0x0000]
        answer = found[0][1]
        assert answer is not None
        told = answer.ScheduledStationNameCodeSequence[0]
        assert (told.CodeValue, told.CodingSchemeDesignator, len(told)) == ("PERF1", "L", 2)
        assert answer.ReferencedRequestSequence[0].AccessionNumber == "A1"

    @pytest.mark.parametrize("inside", [[], [Dataset()]], ids=["no item", "empty item"])
    def test_an_empty_sequence_key_asks_for_it_whole(self, scu: UpsScu, inside: list[Dataset]) -> None:
        found = scu.find(keys(SOPInstanceUID="2.25.1", ScheduledStationNameCodeSequence=inside))
        answer = found[0][1]
        assert answer is not None
        assert answer.ScheduledStationNameCodeSequence[0].CodeMeaning == "Performer"

    def test_what_a_workitem_does_not_have_comes_empty(self, scu: UpsScu) -> None:
        answer = scu.find(keys(SOPInstanceUID="2.25.1", ExpectedCompletionDateTime="", PatientID=""))[0][1]
        assert answer is not None
        assert (answer["ExpectedCompletionDateTime"].value, answer["PatientID"].value) == (None, None) or (
            answer["ExpectedCompletionDateTime"].value,
            answer["PatientID"].value,
        ) == ("", "")

    def test_a_key_that_cannot_be_matched_is_a_warning(self, scu: UpsScu) -> None:
        parameter = keys(ValueType="TEXT")
        found = scu.find(keys(SOPInstanceUID="2.25.1", ScheduledProcessingParametersSequence=[parameter]))
        assert [status for status, _ in found] == [0xFF01, 0x0000]

    @pytest.mark.parametrize(
        ("identifier", "tags"),
        [
            (keys(TransactionUID=LOCK), 0x00081195),
            (keys(ScheduledProcedureStepPriority=["HIGH", "LOW"]), 0x00741200),
            (keys(ScheduledStationNameCodeSequence=[keys(CodeValue="a"), keys(CodeValue="b")]), 0x00404025),
        ],
        ids=["lock", "two values", "two items"],
    )
    def test_identifiers_that_are_none(self, scu: UpsScu, identifier: Dataset, tags: int) -> None:
        found = scu.find(identifier)
        assert found == [(0xA900, None)]
        assert scu.responses[-1].OffendingElement == tags
        assert scu.responses[-1].ErrorComment

    def test_all_keys_at_fault_are_told(self, scu: UpsScu) -> None:
        scu.find(keys(TransactionUID=LOCK, WorklistLabel=["a", "b"]))
        assert scu.responses[-1].OffendingElement == [0x00081195, 0x00741202]

    def test_the_lock_is_never_told(self, scu: UpsScu) -> None:
        assert scu.state("2.25.1", "IN PROGRESS", LOCK).status == 0x0000
        answer = scu.find(keys(SOPInstanceUID="2.25.1", TransactionUID=""))[0][1]
        assert answer is not None
        assert "TransactionUID" not in answer

    def test_without_any_key_nothing_matches(self, scu: UpsScu) -> None:
        assert scu.find(keys(SpecificCharacterSet="ISO_IR 192")) == [(0x0000, None)]

    def test_keys_in_the_peers_character_set(self, scu: UpsScu) -> None:
        asked = keys(SpecificCharacterSet="ISO_IR 100", PatientName="PATIENT1^ä")
        assert [status for status, _ in scu.find(asked)] == [0xFF00, 0x0000]

    def test_more_than_a_page_is_told_once_each(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        for number in range(3, 250):
            worklist.create_workitem(f"2.25.{number}", minimal(), actor=ACTOR)
        found = scu.find(keys(SOPInstanceUID=""))
        told = [str(one.SOPInstanceUID) for _, one in found if one is not None]
        assert len(told) == len(set(told)) == 250

    def test_cancel_ends_it(self, port: DimseServer, worklist: MemoryWorklist) -> None:
        for number in range(3, 1500):
            worklist.create_workitem(f"2.25.{number}", minimal(), actor=ACTOR)
        with connected(port.port) as scu:
            statuses = []
            for command, _ in scu.association.send_c_find(keys(SOPInstanceUID=""), PULL, msg_id=7):
                statuses.append(int(command.Status))
                if len(statuses) == 3:
                    scu.association.send_c_cancel(7, None, query_model=PULL)
            assert statuses[-1] == 0xFE00
            assert len(statuses) < 1500
            assert scu.get("2.25.1").status == 0x0000


class TestClasses:
    @pytest.mark.parametrize(
        "named", [PUSH, PULL, WATCH, EVENT, QUERY], ids=["Push", "Pull", "Watch", "Event", "Query"]
    )
    def test_a_ups_class_is_never_refused_for_differing(
        self, scu: UpsScu, worklist: MemoryWorklist, named: str
    ) -> None:
        bring_to(worklist, "SCHEDULED")
        assert scu.get(UID, named=named, context=WATCH).status == 0x0000
        assert scu.set(UID, keys(ProcedureStepLabel="x"), named=named, context=PULL).status == 0x0000

    @pytest.mark.parametrize("named", [CT_IMAGE_STORAGE, "1.2.3.4.5"], ids=["known", "private"])
    def test_another_class_is_told_and_the_association_goes_on(
        self, scu: UpsScu, worklist: MemoryWorklist, named: str
    ) -> None:
        bring_to(worklist, "SCHEDULED")
        assert scu.create(minimal(), "2.25.5", named=named).status == 0x0118
        told = scu.get("2.25.404", named=named)
        assert (told.status, told.command.AffectedSOPClassUID) == (0x0118, named)
        assert scu.get(UID, named=named).status == 0x0119
        assert scu.set(UID, keys(ProcedureStepLabel="x"), named=named).status == 0x0119
        assert scu.action(UID, 1, keys(), named=named).status == 0x0119
        assert scu.get(UID).status == 0x0000

    @pytest.mark.parametrize(
        ("context", "create", "set_", "get", "find"),
        [
            (PUSH, 0x0000, 0x0211, 0x0000, 0x0122),
            (PULL, 0x0211, 0x0000, 0x0000, 0x0000),
            (WATCH, 0x0211, 0x0211, 0x0000, 0x0000),
            (EVENT, 0x0211, 0x0211, 0x0211, 0x0122),
            (QUERY, 0x0211, 0x0211, 0x0211, 0x0000),
        ],
        ids=["Push", "Pull", "Watch", "Event", "Query"],
    )
    def test_each_class_has_its_services(
        self,
        scu: UpsScu,
        worklist: MemoryWorklist,
        context: str,
        create: int,
        set_: int,
        get: int,
        find: int,
    ) -> None:
        bring_to(worklist, "SCHEDULED")
        assert scu.create(minimal(), "2.25.5", context=context).status == create
        assert scu.set(UID, keys(ProcedureStepLabel="x"), context=context).status == set_
        assert scu.get(UID, context=context).status == get
        assert scu.find(keys(WorklistLabel="none such"), model=context) == [(find, None)]

    def test_reports_are_not_ours_to_receive(self, scu: UpsScu) -> None:
        command, _ = scu.association.send_n_event_report(None, 1, PUSH, UID, meta_uid=EVENT)
        assert command.Status == 0x0211

    def test_classes_not_proposed_are_not_missed(self, port: DimseServer) -> None:
        with connected(port.port, classes=[QUERY]) as scu:
            assert scu.find(keys(WorklistLabel=""), model=QUERY) == [(0x0000, None)]


class Broken(MemoryWorklist):
    """A worklist whose store fails as told."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda: NOW)
        self._error = error

    def _fail(self, *given: Any, **named: Any) -> Any:
        raise self._error

    create_workitem = retrieve_workitem = update_workitem = _fail
    change_state = request_cancel = search_workitems = _fail


@pytest.mark.parametrize(
    ("error", "status", "finding"),
    [(StoreError("disk"), 0x0213, 0xA700), (KeyError("Secret^Name"), 0x0110, 0x0110)],
    ids=["store", "bug"],
)
def test_our_own_failures_are_statuses(
    scu: UpsScu, caplog: pytest.LogCaptureFixture, error: Exception, status: int, finding: int
) -> None:
    WORKLIST.actor = Broken(error)
    told = scu.create(minimal(), UID)
    assert told.status == status
    assert scu.set(UID, keys(ProcedureStepLabel="x")).status == status
    assert scu.get(UID).status == status
    assert scu.state(UID, "IN PROGRESS", LOCK).status == status
    assert scu.action(UID, 2, keys(), context=WATCH).status == status
    assert scu.find(keys(ProcedureStepState="")) == [(finding, None)]
    assert scu.association.is_established
    assert ("ErrorID" in told.command) == (status == 0x0110)
    assert "Secret" not in str(told.command) + caplog.text


class TestHostileData:
    @pytest.mark.parametrize(
        ("bad", "status"),
        [
            (DataElement(0x00404005, "DT", "yesterday", validation_mode=0), 0x0106),
            (DataElement(0x00741200, "CS", "high", validation_mode=0), 0x0106),
            (DataElement(0x00404021, "OB", b"\x00\x01", validation_mode=0), 0x0106),
            (DataElement(0x00741204, "LO", "x" * 4000, validation_mode=0), 0x0106),
            (DataElement(0x00741204, "OB", b"\x00\x01", validation_mode=0), 0x0106),
        ],
        ids=["date", "enumerated", "no sequence", "length", "other VR"],
    )
    def test_bad_values_are_faults(
        self, scu: UpsScu, worklist: MemoryWorklist, bad: DataElement, status: int
    ) -> None:
        bring_to(worklist, "SCHEDULED")
        changes = Dataset()
        changes.add(bad)
        before = attributes_of(worklist)
        assert scu.set(UID, changes).status == status
        assert attributes_of(worklist) == before
        assert scu.get(UID).status == 0x0000


def test_many_associations_at_once(port: DimseServer, worklist: MemoryWorklist) -> None:
    def live(number: int) -> list[int]:
        uid, lock = f"2.25.{1000 + number}", f"2.25.{5000 + number}"
        with connected(port.port, ae_title=f"PERFORMER{number}") as scu:
            done = [scu.create(minimal(), uid).status, scu.state(UID, "IN PROGRESS", lock).status]
            done += [scu.state(uid, "IN PROGRESS", lock).status]
            done += [scu.set(uid, merged([performed(), element("TransactionUID", lock)])).status]
            done += [scu.state(uid, "COMPLETED", lock).status]
            done += [len(scu.find(keys(SOPInstanceUID=uid, ProcedureStepState="")))]
            return done

    bring_to(worklist, "SCHEDULED")
    with ThreadPoolExecutor(24) as pool:
        lives = list(pool.map(live, range(24)))
    assert sorted(one[1] for one in lives) == [0x0000] + [0xC301] * 23
    assert {(*one[:1], *one[2:]) for one in lives} == {(0, 0, 0, 0, 2)}


def test_code_items_survive(scu: UpsScu, worklist: MemoryWorklist) -> None:
    assert scu.create(minimal(ScheduledWorkitemCodeSequence=code()), UID).status == 0x0000
    found = scu.get(UID, [0x00404018]).data_set
    assert found is not None
    assert found.ScheduledWorkitemCodeSequence[0].CodeValue == "AW1001"
    assert scu.set(UID, progress(ProcedureStepProgress="40")).status == 0x0000
