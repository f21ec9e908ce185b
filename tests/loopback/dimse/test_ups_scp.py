# SPDX-License-Identifier: Apache-2.0
"""Create, Set and Get over DIMSE, status by status (PS3.4 CC.2.5 to CC.2.7)."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import PULL, PUSH, WATCH
from profiles.dicom_json import element, merged, text
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW, minimal, performed, request
from tests.contract.worklist import ACTOR, LOCK, UID, attributes_of, bring_to, must, state_of
from tests.loopback.dimse.ups_peer import (
    UpsScu,
    connected,
    keys,
)

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

MALFORMED_UIDS = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pydicom, at both ends
STATE, LABEL = 0x00741000, 0x00741204


class TestCreate:
    @pytest.mark.parametrize(
        "syntax",
        [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
        ids=lambda uid: uid.name,
    )
    def test_what_is_created_is_kept_as_over_http(
        self, ups_server: DimseServer, worklist: MemoryWorklist, syntax: str
    ) -> None:
        wanted = minimal(PatientName="Ömür^Çelik", ReferencedRequestSequence=request(), PregnancyStatus=4)
        with connected(ups_server.port, syntaxes=[syntax]) as scu:
            told = scu.create(wanted, UID)
        assert (told.status, told.command.AffectedSOPInstanceUID) == (0x0000, UID)
        by_http = MemoryWorklist(lambda: NOW)
        must(by_http.create_workitem(UID, wanted, actor=ACTOR))
        assert attributes_of(worklist) == attributes_of(by_http)
        assert text(attributes_of(worklist), "PatientName") == "Ömür^Çelik"

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
