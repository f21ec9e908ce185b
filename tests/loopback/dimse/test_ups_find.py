# SPDX-License-Identifier: Apache-2.0
"""Searches of the worklist over DIMSE (PS3.4 CC.2.8)."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import PULL, PUSH, QUERY, WATCH
from task_manager.outcome import Accepted
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import code, minimal, request
from tests.contract.worklist import ACTOR, LOCK
from tests.loopback.dimse.ups_peer import (
    UpsScu,
    connected,
    keys,
)

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

MALFORMED_UIDS = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pydicom, at both ends
STATE, LABEL = 0x00741000, 0x00741204


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
    def test_universal_keys_find_all_in_order(self, ups_server: DimseServer, model: str, syntax: str) -> None:
        asked = keys(SOPClassUID="", SOPInstanceUID="", ScheduledProcedureStepPriority="", PatientName="")
        with connected(ups_server.port, syntaxes=[syntax]) as scu:
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
        ids=lambda part: str(sorted(part)) if isinstance(part, set) else str(part),
    )
    def test_keys(self, scu: UpsScu, given: dict[str, Any], found: set[str]) -> None:
        answers = scu.find(keys(**{"SOPInstanceUID": "", **given}))
        assert answers[-1] == (0x0000, None)
        assert {str(one.SOPInstanceUID)[5:] for _, one in answers if one is not None} == found

    def test_the_habits_of_real_clients_do_no_harm(self, scu: UpsScu) -> None:
        found = scu.find(keys(SOPClassUID=QUERY, QueryRetrieveLevel="WORKLIST"), model=QUERY)
        assert [status for status, _ in found] == [0xFF00] * 3 + [0x0000]
        assert {str(one.SOPClassUID) for _, one in found if one is not None} == {PUSH}
        assert scu.find(keys(SOPClassUID="1.2.840.10008.1.1"), model=QUERY) == [(0x0000, None)]

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

    def test_what_leaves_the_worklist_meanwhile_hides_nothing(
        self, ups_server: DimseServer, worklist: MemoryWorklist
    ) -> None:
        for number in range(3, 250):
            worklist.create_workitem(f"2.25.{number}", minimal(), actor=ACTOR)
        told: list[str] = []
        with connected(ups_server.port) as scu:
            wanted = keys(SOPInstanceUID="", ProcedureStepState="SCHEDULED")
            for _, identifier in scu.association.send_c_find(wanted, PULL):
                if identifier is None:
                    continue
                if not told:
                    for number in range(3, 100):
                        worklist.change_state(
                            f"2.25.{number}", "IN PROGRESS", transaction_uid="2.25.9", actor=ACTOR
                        )
                told.append(str(identifier.SOPInstanceUID))
        assert {f"2.25.{number}" for number in range(100, 250)} <= set(told)
        assert len(told) == len(set(told))

    def test_more_than_a_page_is_told_once_each(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        for number in range(3, 1200):
            worklist.create_workitem(f"2.25.{number}", minimal(), actor=ACTOR)
        found = scu.find(keys(SOPInstanceUID=""))
        told = [str(one.SOPInstanceUID) for _, one in found if one is not None]
        assert len(told) == len(set(told)) == 1200

    def test_cancel_ends_it(self, ups_server: DimseServer, worklist: MemoryWorklist) -> None:
        for number in range(3, 2500):
            worklist.create_workitem(f"2.25.{number}", minimal(), actor=ACTOR)
        with connected(ups_server.port) as scu:
            statuses = []
            for command, _ in scu.association.send_c_find(keys(SOPInstanceUID=""), PULL, msg_id=7):
                statuses.append(int(command.Status))
                if len(statuses) == 3:
                    scu.association.send_c_cancel(7, None, query_model=PULL)
            assert statuses[-1] == 0xFE00
            assert len(statuses) < 2500
            assert scu.get("2.25.1").status == 0x0000
