# SPDX-License-Identifier: Apache-2.0
"""What follows when a hospital tells that a patient's data changed, or that two patients are one.

Open orders, studies and workitems that are not final follow in the transaction of the message; images and
final workitems stay as they are. Every change leaves a record and an operational event.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from profiles.dicom_json import merged, text
from profiles.order import MessageKey, Order, order_digest
from profiles.patient import IdentityChange, IdentityKind, PatientIdentity
from profiles.sole.events import EventType, OperationalEvent
from task_manager.actor import WORKER, Actor
from task_manager.store import identities, orders, prior_reports
from task_manager.store.identities import IdentityRecord, same_issuer
from task_manager.store.orders import OrderStatus
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import Reidentify

_EVENTS = {
    IdentityKind.UPDATED: EventType.PATIENT_UPDATED,
    IdentityKind.MERGED: EventType.PATIENT_MERGED,
    IdentityKind.RENUMBERED: EventType.PATIENT_RENUMBERED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A change under way: the id that things are known by so far, and who it is from now on."""

    patient_id: str
    issuer: str
    patient: PatientIdentity
    shared: bool

    def is_about(self, issuer: str) -> bool:
        """Whether something with the same id and this issuer is of this patient."""
        return issuer == self.issuer or (not self.shared and same_issuer(issuer, self.issuer))


def apply_identity(
    work: WorklistTransaction,
    told: IdentityChange,
    *,
    message: MessageKey,
    index: int,
    actor: Actor,
    touched: set[str],
) -> None:
    """Do what one change asks for; an update of a patient nobody here knows is not kept.

    An update of an id that was merged away comes too late: it is recorded, and changes nothing. `touched` are
    the workitems that earlier changes of the same message gave to others.
    """
    connection, now, patient = work.connection, work.now, told.patient
    moves = told.kind in (IdentityKind.MERGED, IdentityKind.RENUMBERED)
    if told.kind is IdentityKind.VISIT:
        return
    if not moves and not identities.is_known_patient(connection, patient.patient_id):
        return
    identities.lock_identities(connection, change=True)
    survivor = _survivor(work, told)
    studies: list[tuple[str, str]] = []
    if moves or survivor is None:
        patient = patient if survivor is None else survivor
        if survivor is None:
            identities.put_identity(connection, patient, now)
        # what the survivor is called holds for what it is given as well
        patient = _kept(work, patient)
        change = _change(work, patient, told.former_id, told.former_issuer)
        studies = _move_everything(work, change, touched)
    if moves:
        identities.put_survivor(connection, told.former_id, told.former_issuer, patient, now)
        prior_reports.move_reports(
            connection,
            told.former_id,
            told.former_issuer,
            patient.patient_id,
            patient.issuer,
            shared=change.shared,
        )
        _move_everything(work, _change(work, patient), touched)
    identities.add_change(
        connection,
        IdentityRecord(
            kind=told.kind.value,
            patient_id=patient.patient_id,
            issuer=patient.issuer,
            former_id=told.former_id,
            former_issuer=told.former_issuer,
            fields=",".join(_fields(told.patient)) if survivor is None else "",
            sender=message.sending_application,
            control_id=message.control_id,
            changed_at=now,
        ),
    )
    about = replace(told, patient=patient)
    for study_instance_uid, accession_number in [("", ""), *studies]:
        work.record(_event(work, about, message, index, actor, study_instance_uid, accession_number))


def _survivor(work: WorklistTransaction, told: IdentityChange) -> PatientIdentity | None:
    """Who the patient of a change was merged into before; None if it is itself.

    A merge of that one into the patient turns the former merge round: the patient is itself again.
    """
    patient = told.patient
    found = identities.current_identity(work.connection, patient.patient_id, patient.issuer)
    if found is None:
        return None
    if found.patient_id == patient.patient_id and identities.same_issuer(found.issuer, patient.issuer):
        return None
    turned = found.patient_id == told.former_id and identities.same_issuer(found.issuer, told.former_issuer)
    return None if turned else found


def _kept(work: WorklistTransaction, patient: PatientIdentity) -> PatientIdentity:
    """All that was told of a patient so far, with what is deleted now."""
    found = identities.current_identity(work.connection, patient.patient_id, patient.issuer)
    return patient if found is None else replace(found, cleared=patient.cleared)


def _change(
    work: WorklistTransaction, patient: PatientIdentity, former_id: str = "", former_issuer: str = ""
) -> _Change:
    patient_id, issuer = (former_id, former_issuer) if former_id else (patient.patient_id, patient.issuer)
    return _Change(
        patient_id=patient_id,
        issuer=issuer,
        patient=patient,
        shared=identities.is_shared_id(work.connection, patient_id, issuer),
    )


def _move_everything(work: WorklistTransaction, change: _Change, touched: set[str]) -> list[tuple[str, str]]:
    """Studies, orders and workitems follow; (UID, accession number) of the studies.

    Studies first: who completes one holds its row until the workitems made for it can be found.
    """
    studies = _move_studies(work, change)
    digests = _move_orders(work, change)
    _move_workitems(work, change, digests, touched)
    return studies


def _move_orders(work: WorklistTransaction, change: _Change) -> dict[str, tuple[str, str]]:
    """Order key to its digest before and after, of the orders that may still cause work."""
    digests: dict[str, tuple[str, str]] = {}
    patient = change.patient
    for key, order, status in orders.orders_of_patient(work.connection, change.patient_id):
        if not change.is_about(order.issuer_of_patient_id):
            continue
        after = _order_of(order, patient)
        moved = after.issuer_of_patient_id != order.issuer_of_patient_id
        moved = moved or after.patient_id != order.patient_id
        if after == order or (status is OrderStatus.REVOKED and not moved):
            continue
        orders.put_order(work.connection, after, key, status=status, now=work.now)
        digests[key] = (order_digest(order), order_digest(after))
    return digests


def _order_of(order: Order, patient: PatientIdentity) -> Order:
    stays = order.patient_id == patient.patient_id and identities.same_issuer(
        order.issuer_of_patient_id, patient.issuer
    )

    def told(name: str, value: str, known: str) -> str:
        return value if value or name in patient.cleared else known

    return replace(
        order,
        patient_id=patient.patient_id,
        issuer_of_patient_id=order.issuer_of_patient_id if stays else patient.issuer,
        patient_name=told("name", patient.name, order.patient_name),
        patient_birth_date=told("birth_date", patient.birth_date, order.patient_birth_date),
        patient_sex=told("sex", patient.sex, order.patient_sex),
    )


def _move_workitems(
    work: WorklistTransaction, change: _Change, digests: dict[str, tuple[str, str]], touched: set[str]
) -> None:
    """Workitems that are not final get the new identity; their orders have not changed for them by that."""
    uids = [*identities.unfinished_of_patient(work.connection, change.patient_id), *sorted(touched)]
    work.hold(uids)
    for uid in dict.fromkeys(uids):
        workitem = work.get(uid)
        if workitem is None or workitem.is_final:
            continue
        if text(workitem.attributes, "PatientID") != change.patient_id:
            continue
        if not change.is_about(text(workitem.attributes, "IssuerOfPatientID")):
            continue
        changes = identities.demographics(change.patient, workitem.attributes)
        if changes:
            work.apply(uid, Reidentify(changes=changes), actor=WORKER)
            touched.add(uid)
        origin = work.origin(uid)
        before, after = digests.get(origin.order_key, ("", ""))
        if before and origin.order_digest == before:
            work.set_origin(uid, replace(origin, order_digest=after))


def _move_studies(work: WorklistTransaction, change: _Change) -> list[tuple[str, str]]:
    moved = []
    for uid, accession_number, attributes in identities.studies_of_patient(
        work.connection, change.patient_id
    ):
        if not change.is_about(text(attributes, "IssuerOfPatientID")):
            continue
        after = merged([attributes, identities.demographics(change.patient, attributes)])
        if after != attributes:
            identities.put_patient_of_study(work.connection, uid, after)
            moved.append((uid, accession_number))
    return moved


def _fields(patient: PatientIdentity) -> list[str]:
    """Names of the demographics that were told."""
    told = (("name", patient.name), ("birth_date", patient.birth_date), ("sex", patient.sex))
    return [name for name, value in told if value or name in patient.cleared]


def _event(
    work: WorklistTransaction,
    told: IdentityChange,
    message: MessageKey,
    index: int,
    actor: Actor,
    study_instance_uid: str,
    accession_number: str,
) -> OperationalEvent:
    name = f"{message.sending_application}:{message.sending_facility}:{message.control_id}"
    return OperationalEvent(
        key=f"identity:{name}:{index}:{study_instance_uid}",
        type=_EVENTS[told.kind],
        occurred_at=work.now,
        machine=actor.called or "AIRWAY",
        function=f"from {actor.name}" if actor.name else "",
        patient_id=told.patient.patient_id,
        issuer_of_patient_id=told.patient.issuer,
        former_patient_id=told.former_id,
        former_issuer=told.former_issuer,
        study_instance_uid=study_instance_uid,
        accession_number=accession_number,
    )
