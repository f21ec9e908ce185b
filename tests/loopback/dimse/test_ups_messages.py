# SPDX-License-Identifier: Apache-2.0
"""Messages of the wrong class, hostile ones, our own failures, and many at once, over DIMSE."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_FIND, N_ACTION, N_CREATE, N_GET, N_SET

from conformance.peers.process import wait_until
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import EVENT, PULL, PUSH, QUERY, WATCH
from profiles.dicom_json import element, merged
from task_manager.errors import StoreError
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW, code, minimal, performed, progress
from tests.contract.worklist import LOCK, UID, attributes_of, bring_to
from tests.loopback.dimse.ups_peer import (
    WORKLIST,
    UpsScu,
    connected,
    keys,
)

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

MALFORMED_UIDS = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pydicom, at both ends
STATE, LABEL = 0x00741000, 0x00741204


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

    def test_classes_not_proposed_are_not_missed(self, ups_server: DimseServer) -> None:
        with connected(ups_server.port, classes=[QUERY]) as scu:
            assert scu.find(keys(WorklistLabel=""), model=QUERY) == [(0x0000, None)]


class Broken(MemoryWorklist):
    """A worklist whose store fails as told."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda: NOW)
        self._error = error

    def _fail(self, *given: Any, **named: Any) -> Any:
        raise self._error

    create_workitem = retrieve_workitem = update_workitem = _fail
    change_state = request_cancel = search_workitems = search = _fail


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


def test_many_associations_at_once(ups_server: DimseServer, worklist: MemoryWorklist) -> None:
    def live(number: int) -> list[int]:
        uid, lock = f"2.25.{1000 + number}", f"2.25.{5000 + number}"
        with connected(ups_server.port, ae_title=f"PERFORMER{number}") as scu:
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


class TestCommandsWithHoles:
    """Messages that the library would pass over in silence, or end the association for."""

    @staticmethod
    def ask(scu: UpsScu, primitive: Any, context: str = PULL) -> int:
        """Send a message as it is and return the status of its answer."""
        association = scu.association
        primitive.MessageID = 99
        number = next(
            one.context_id for one in association.accepted_contexts if one.abstract_syntax == context
        )
        association._reactor_checkpoint.clear()  # as the library's own senders do
        while not association._is_paused:
            pass
        association.dimse.send_msg(primitive, number)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer is not None, "no answer"
        return int(answer.Status)

    def test_no_instance(self, scu: UpsScu) -> None:
        get = N_GET()
        get.RequestedSOPClassUID = PUSH
        assert self.ask(scu, get) == 0xC307

    def test_no_class(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "SCHEDULED")
        get = N_GET()
        get.RequestedSOPInstanceUID = "2.25.404"
        assert self.ask(scu, get) == 0x0118
        get.RequestedSOPInstanceUID = UID
        assert self.ask(scu, get) == 0x0119
        assert self.ask(scu, N_CREATE(), PUSH) == 0x0118

    def test_no_action(self, scu: UpsScu) -> None:
        action = N_ACTION()
        action.RequestedSOPClassUID = PUSH
        action.RequestedSOPInstanceUID = UID
        assert self.ask(scu, action) == 0x0123

    def test_bytes_that_are_no_data_set(self, scu: UpsScu, worklist: MemoryWorklist) -> None:
        bring_to(worklist, "SCHEDULED")
        update = N_SET()
        update.RequestedSOPClassUID = PUSH
        update.RequestedSOPInstanceUID = UID
        update.ModificationList = BytesIO(b"\xff" * 33)
        assert self.ask(scu, update) == 0x0110
        find = C_FIND()
        find.AffectedSOPClassUID = PULL
        find.Priority = 2
        find.Identifier = BytesIO(b"\xff" * 33)
        assert self.ask(scu, find) == 0xC000
        assert scu.get(UID).status == 0x0000

    def test_a_class_of_full_length(self, scu: UpsScu) -> None:
        assert scu.get("2.25.404", named="1.2.3." + "4" * 58).status == 0x0118

    def test_deleting_is_no_service_of_ours(self, ups_server: DimseServer) -> None:
        with connected(ups_server.port) as scu:
            scu.association.send_n_delete(PUSH, UID)
            wait_until(lambda: not scu.association.is_established, "the end of the association")
        with connected(ups_server.port) as scu:
            assert scu.get("2.25.404").status == 0xC307
