# SPDX-License-Identifier: Apache-2.0
"""What comes in: instances and orders. Success is answered only after bytes and record are durable.

Implements :class:`task_manager.ports.InstanceIntake` and :class:`task_manager.ports.OrderIntake`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from profiles import dicom_json
from profiles.faults import Fault
from profiles.order import MessageKey, Order, OrderControl
from profiles.sole.events import EventType, OperationalEvent
from task_manager.actor import Actor
from task_manager.errors import ConflictError, StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import ObjectStore, StagedObject
from task_manager.store import orders, studies, workitems
from task_manager.store.database import Database
from task_manager.study.assembly import after_instance
from task_manager.study.duplicate import same_data_set
from task_manager.study.header import read_header
from task_manager.study.model import Instance, InstanceHeader, Study
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import RequestCancel
from task_manager.worklist import StoredWorklist

_LOG = logging.getLogger(__name__)
_TRIES = 3
_CANCELING = (OrderControl.CANCEL, OrderControl.DISCONTINUE)


class Intake:
    """Receives instances and orders into the store.

    Parameters
    ----------
    quiet_period
        How long no image must arrive before a study counts as complete.
    clock
        Gives aware UTC time.
    wake
        Called after each commit, so that the worker looks for work at once.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        worklist: StoredWorklist,
        *,
        quiet_period: timedelta,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._objects = objects
        self._worklist = worklist
        self._quiet_period = quiet_period
        self._clock = clock
        self._wake = wake

    def stage(self) -> StagedObject:
        """Where to stream the bytes of one instance."""
        return self._objects.stage()

    def receive_instance(
        self,
        staged: StagedObject,
        *,
        actor: Actor,
        announced_sop_class_uid: str = "",
        announced_sop_instance_uid: str = "",
        study_instance_uid: str = "",
    ) -> Accepted | Refused:
        """Commit a staged instance and its record, or refuse and discard it.

        Raises
        ------
        StoreError
            If disk or database failed; nothing was acknowledged, the sender may try again.
        """
        header = read_header(staged.path)
        if isinstance(header, Refused):
            staged.discard()
            return header
        faults = _disagreements(
            header, announced_sop_class_uid, announced_sop_instance_uid, study_instance_uid
        )
        if faults:
            staged.discard()
            return Refused(RefusalCode.SOP_CLASS_MISMATCH, faults)
        uid = header.sop_instance_uid
        duplicate = Accepted(uid=uid, warnings=(WarningCode.DUPLICATE,))
        known = self._copies(uid)  # and while the database is away, nothing is committed that nobody records
        if self._is_among(known, staged.path):
            staged.discard()
            return duplicate
        size = staged.size
        path = self._objects.commit(
            staged, study_instance_uid=header.study_instance_uid, sop_instance_uid=uid
        )
        for _ in range(_TRIES):
            try:
                accepted = self._record(header, path, size, actor, known)
            except ConflictError:  # another association recorded this UID just now: compare again
                known = self._copies(uid)
                if not self._is_among(known, self._objects.absolute(path)):
                    continue
                self._objects.absolute(path).unlink(missing_ok=True)
                accepted = duplicate
            staged.settle()
            return accepted
        raise StoreError("instance could not be recorded: another association keeps recording the same UID")

    def _copies(self, sop_instance_uid: str) -> list[tuple[int, str]]:
        with self._database.read() as connection:
            return studies.copies_of(connection, sop_instance_uid)

    def _is_among(self, copies: Sequence[tuple[int, str]], path: Path) -> bool:
        """Whether one of `copies` has the data set of the file at `path`.

        Compared outside any transaction: reading large objects must not keep other doors from writing.
        """
        for _, kept in copies:
            try:
                if same_data_set(self._objects.absolute(kept), path):
                    return True
            except OSError as error:
                _LOG.error(
                    "a kept object cannot be read", extra={"action": "instance.lost", **facts_of(error)}
                )
        return False

    def receive_order(
        self, received: Sequence[Order], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit all orders of one message, or none; the same message again changes nothing."""
        for _ in range(_TRIES):
            try:
                outcome = self._record_orders(received, key, raw, actor)
            except ConflictError:  # the same message on another connection, or work on the same order
                continue
            if isinstance(outcome, Accepted) and not outcome.warnings:
                self._wake()
                extra = {"action": "order.received", "orders": len(received)}
                _LOG.info("order message committed", extra=extra)
            return outcome
        raise StoreError("orders could not be recorded: others keep changing the same")

    def _record_orders(
        self, received: Sequence[Order], key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        now = self._clock()
        with self._database.write() as connection:
            before = orders.known_message(connection, key)
            if before is not None:
                return _repeated(before, raw, key)
            keys = [orders.known_order_key(connection, order) for order in received]
            faults = tuple(
                Fault(f"ORC[{index}]-2", "no such order to change or cancel")
                for index, (order, known) in enumerate(zip(received, keys, strict=True))
                if known is None and order.control is not OrderControl.NEW
            )
            if faults:
                return Refused(RefusalCode.UNKNOWN_ORDER, faults)
            orders.add_message(connection, key, raw, now)
            with self._worklist.within(connection, now) as work:
                for order, known in zip(received, keys, strict=True):
                    self._apply_order(work, order, known or orders.order_key(order), key, actor)
        return Accepted(uid=key.control_id)

    def _apply_order(
        self, work: WorklistTransaction, order: Order, order_key: str, key: MessageKey, actor: Actor
    ) -> None:
        connection, now = work.connection, work.now
        canceling = order.control in _CANCELING
        if canceling:
            orders.revoke_order(connection, order_key, now)
            caused = workitems.workitems_of_order(connection, order_key)
            work.hold(caused)
            for uid in caused:  # a running one is only told of the wish
                details = dicom_json.element("ReasonForCancellation", "order canceled")
                work.apply(uid, RequestCancel(details=details), actor=actor)
        else:
            orders.put_order(connection, order, order_key, status=orders.OrderStatus.ACTIVE, now=now)
            studies.look_again(connection, order, now)
        work.record(
            OperationalEvent(
                key=f"order:{key.sending_application}:{key.sending_facility}:{key.control_id}:{order_key}",
                type=EventType.EXAM_CANCELLED if canceling else EventType.ORDER_RECEIVED,
                occurred_at=now,
                machine=actor.called or "AIRWAY",
                function=f"from {actor.name}" if actor.name else "",
                patient_id=order.patient_id,
                issuer_of_patient_id=order.issuer_of_patient_id,
                study_instance_uid=order.study_instance_uid,
                accession_number=order.accession_number,
                order_number=order.placer_order_number or order.filler_order_number,
            )
        )

    def _record(
        self,
        header: InstanceHeader,
        path: str,
        size: int,
        actor: Actor,
        compared: Sequence[tuple[int, str]],
    ) -> Accepted:
        """Record an instance that is none of the copies it was `compared` with."""
        now = self._clock()
        with self._database.write() as connection:
            copies = studies.copies_of(connection, header.sop_instance_uid)
            if copies != compared:
                raise ConflictError("the same UID was recorded meanwhile")
            instance = _instance(header, path, size, now)
            studies.add_instance(
                connection, instance, copy_number=len(copies), source=f"{actor.door}:{actor.name}"
            )
            if copies:
                _LOG.warning(
                    "other bytes under a known UID kept apart", extra={"action": "instance.kept_apart"}
                )
                return Accepted(uid=header.sop_instance_uid, warnings=(WarningCode.KEPT_APART,))
            studies.add_series(connection, header)
            known = studies.locked_study(connection, header.study_instance_uid)
            if known is None:
                begun = after_instance(None, header, now=now, quiet_period=self._quiet_period)
                if begun is None or not studies.add_study(connection, begun, **_numbers(begun)):
                    known = studies.locked_study(connection, header.study_instance_uid)
            if known is not None:
                study = after_instance(known, header, now=now, quiet_period=self._quiet_period)
                if study is not None:
                    studies.put_study(connection, study, **_numbers(study))
        if known is None or known.deadline_at is None:
            self._wake()  # a deadline where there was none; one that moves back needs no look
        _LOG.info("instance committed", extra={"action": "instance.received", "uid": header.sop_instance_uid})
        return Accepted(uid=header.sop_instance_uid)


def _repeated(before: bytes, raw: bytes, key: MessageKey) -> Accepted | Refused:
    """Accept the same message again; refuse another one under a used control id, for it would be lost."""
    if _without_time(before) == _without_time(raw):
        return Accepted(uid=key.control_id, warnings=(WarningCode.DUPLICATE,))
    fault = Fault("MSH-10", "this control id was used for another message; send it under a new one")
    return Refused(RefusalCode.DUPLICATE_INSTANCE, (fault,))


def _without_time(raw: bytes) -> bytes:
    """The message without MSH-7: a sender may write the time anew when it repeats one."""
    header, separator, rest = raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r").partition(b"\r")
    fields = header.split(header[3:4]) if len(header) > 3 else [header]
    return b"|".join(fields[:6] + fields[7:]) + separator + rest.rstrip(b"\r")


def _instance(header: InstanceHeader, path: str, size: int, now: datetime) -> Instance:
    number = dicom_json.first(header.attributes, "InstanceNumber")
    return Instance(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        instance_number=number if isinstance(number, int) and abs(number) < 2**31 else None,
        path=path,
        size=size,
        received_at=now,
        attributes=header.attributes,
    )


def _numbers(study: Study) -> dict[str, str]:
    return {
        "patient_id": dicom_json.text(study.attributes, "PatientID"),
        "accession_number": dicom_json.text(study.attributes, "AccessionNumber"),
    }


def _disagreements(
    header: InstanceHeader, sop_class_uid: str, sop_instance_uid: str, study_instance_uid: str
) -> tuple[Fault, ...]:
    announced = (
        ("SOPClassUID", sop_class_uid, header.sop_class_uid),
        ("SOPInstanceUID", sop_instance_uid, header.sop_instance_uid),
        ("StudyInstanceUID", study_instance_uid, header.study_instance_uid),
    )
    return tuple(
        Fault(keyword, "data set and request name different UIDs")
        for keyword, said, found in announced
        if said and said != found
    )
