# SPDX-License-Identifier: Apache-2.0
"""The five actions over DIMSE, status by status (PS3.4 CC.2.1 to CC.2.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from informatics_gateway.dimse.ups_messages import EVENT, PULL, PUSH, QUERY, WATCH
from profiles.dicom_json import DicomJson, element, tag_key, text
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.worklist import LOCK, UID, bring_to, state_of
from tests.loopback.dimse.ups_peer import (
    RememberedSubscriptions,
    UpsScu,
    connected,
    keys,
    ups_port,
)

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

MALFORMED_UIDS = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # pydicom, at both ends
STATE, LABEL = 0x00741000, 0x00741204


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
