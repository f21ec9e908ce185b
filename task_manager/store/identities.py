# SPDX-License-Identifier: Apache-2.0
"""Statements over patient identities: who a patient id stands for now, and how that came to be.

A merge leaves images and their headers as they are; who they are of is looked up here. Each function takes a
connection; none commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, insert, or_, select, update

from profiles import dicom_json
from profiles.dicom_json import DicomJson, element, merged, text
from profiles.order import Order
from profiles.patient import PatientIdentity, PriorReport
from task_manager.store.patient_tables import IdentityChangeRow, PatientIdentityRow
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA
from task_manager.study.model import Study

_IDENTITY = PatientIdentityRow.metadata.tables["patient_identity"]
_CHANGE = IdentityChangeRow.metadata.tables["identity_change"]
_STUDY = METADATA.tables["study"]
_WORKITEM = METADATA.tables["workitem"]
_ORDER = METADATA.tables["imaging_order"]
_ADVISORY_LOCK = 4_180_121
_LONGEST_CHAIN = 32
_MOST_CHANGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord:
    """One change of identity in the history; `fields` names what it changed."""

    kind: str
    patient_id: str
    issuer: str
    former_id: str
    former_issuer: str
    fields: str
    sender: str
    control_id: str
    changed_at: datetime


def same_issuer(one: str, other: str) -> bool:
    """Whether two issuers may be the same: one that is not told is no other one."""
    return one == other or not one or not other


def current_identity(connection: Connection, patient_id: str, issuer: str) -> PatientIdentity | None:
    """Who a patient id stands for now, after all merges; None if nothing was told of it.

    An id without an issuer is that of any issuer if only one is known, else nobody's. A former id stays its
    survivor's, whatever is told of it later.
    """
    row = _row(connection, patient_id, issuer)
    for _ in range(_LONGEST_CHAIN):
        if row is None or not row.survivor_id:
            break
        row = _exact(connection, row.survivor_id, row.survivor_issuer) or row
    if row is None:
        return None
    return PatientIdentity(
        patient_id=row.patient_id,
        issuer=row.issuer,
        name=row.patient_name,
        birth_date=row.birth_date,
        sex=row.sex,
    )


def lock_identities(connection: Connection, *, change: bool) -> None:
    """Keep who patients are from being changed until the transaction ends, or all others from relying on it.

    A merge on PostgreSQL would otherwise not see an order that another transaction is about to add for the
    former id. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        kind = "" if change else "_shared"
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{kind}({_ADVISORY_LOCK})")


def put_identity(connection: Connection, identity: PatientIdentity, now: datetime) -> None:
    """Keep what was told of a patient that is merged into nobody, or is not any more."""
    known = _exact(connection, identity.patient_id, identity.issuer)
    values = {
        "patient_id": identity.patient_id,
        "issuer": identity.issuer,
        "patient_name": _told(identity, "name", identity.name, known.patient_name if known else ""),
        "birth_date": _told(identity, "birth_date", identity.birth_date, known.birth_date if known else ""),
        "sex": _told(identity, "sex", identity.sex, known.sex if known else ""),
        "survivor_id": "",
        "survivor_issuer": "",
        "changed_at": now,
    }
    _put(connection, values)


def put_survivor(
    connection: Connection, former_id: str, former_issuer: str, survivor: PatientIdentity, now: datetime
) -> None:
    """Keep that a patient id, and every id that stood for it, now stand for `survivor`."""
    shared = is_shared_id(connection, former_id, former_issuer)
    known = connection.execute(select(_IDENTITY.c.issuer).where(_IDENTITY.c.patient_id == former_id))
    issuers = {one for one in known.scalars() if not shared and same_issuer(one, former_issuer)}
    for issuer in sorted({former_issuer, *issuers}):
        if (former_id, issuer) == (survivor.patient_id, survivor.issuer):
            continue
        connection.execute(
            update(_IDENTITY)
            .where(_IDENTITY.c.survivor_id == former_id, _IDENTITY.c.survivor_issuer == issuer)
            .values(survivor_id=survivor.patient_id, survivor_issuer=survivor.issuer, changed_at=now)
        )
        values = {
            "patient_id": former_id,
            "issuer": issuer,
            "patient_name": "",
            "birth_date": "",
            "sex": "",
            "survivor_id": survivor.patient_id,
            "survivor_issuer": survivor.issuer,
            "changed_at": now,
        }
        _put(connection, values)


def is_known_patient(connection: Connection, patient_id: str) -> bool:
    """Whether anything here is about a patient id: a study, an order, a workitem, or an identity."""
    tables = (_STUDY, _ORDER, _WORKITEM, _IDENTITY)
    return any(
        connection.execute(
            select(table.c.patient_id).where(table.c.patient_id == patient_id).limit(1)
        ).first()
        is not None
        for table in tables
    )


def is_shared_id(connection: Connection, patient_id: str, issuer: str) -> bool:
    """Whether others than `issuer` use a patient id too, as far as messages, orders and images told."""
    told = select(_IDENTITY.c.issuer).where(_IDENTITY.c.patient_id == patient_id)
    ordered = select(_ORDER.c.content).where(_ORDER.c.patient_id == patient_id)
    imaged = select(_STUDY.c.attributes).where(_STUDY.c.patient_id == patient_id)
    issuers = {issuer, *connection.execute(told).scalars()}
    for content in connection.execute(ordered).scalars():
        issuers.add(orjson.loads(content).get("issuer_of_patient_id", ""))
    for attributes in connection.execute(imaged).scalars():
        issuers.add(text(orjson.loads(attributes), "IssuerOfPatientID"))
    return len(issuers - {""}) > 1


def add_change(connection: Connection, record: IdentityRecord) -> None:
    """Add to the history."""
    names = IdentityRecord.__dataclass_fields__
    connection.execute(insert(_CHANGE).values({name: getattr(record, name) for name in names}))


def changes_of(connection: Connection, patient_id: str) -> list[IdentityRecord]:
    """The history of a patient id and of those merged into it, the oldest first."""
    if not patient_id:
        return []
    ids = {patient_id}
    found = connection.execute(
        select(_IDENTITY.c.patient_id).where(_IDENTITY.c.survivor_id == patient_id).limit(_MOST_CHANGES)
    )
    ids.update(found.scalars())
    names = list(IdentityRecord.__dataclass_fields__)
    statement = (
        select(*(_CHANGE.c[name] for name in names))
        .where(or_(_CHANGE.c.patient_id.in_(ids), _CHANGE.c.former_id == patient_id))
        .order_by(_CHANGE.c.id.desc())
        .limit(_MOST_CHANGES)
    )
    rows = connection.execute(statement).all()
    return [IdentityRecord(**dict(zip(names, row, strict=True))) for row in reversed(rows)]


# What is known of patients elsewhere


def with_current_patient(connection: Connection, order: Order) -> Order:
    """`order` for the patient its id stands for now; its own demographics stay."""
    current = current_identity(connection, order.patient_id, order.issuer_of_patient_id)
    if current is None or _is_same(current, order.patient_id, order.issuer_of_patient_id):
        return order
    return replace(order, patient_id=current.patient_id, issuer_of_patient_id=current.issuer)


def report_of_current_patient(connection: Connection, report: PriorReport) -> PriorReport:
    """`report` for the patient its id stands for now."""
    current = current_identity(connection, report.patient_id, report.issuer_of_patient_id)
    if current is None or _is_same(current, report.patient_id, report.issuer_of_patient_id):
        return report
    return replace(report, patient_id=current.patient_id, issuer_of_patient_id=current.issuer)


def identified(connection: Connection, study: Study) -> Study:
    """`study` with the patient as told last, in it and in all its series; as it is if nothing was told."""
    series = tuple(replace(one, attributes=_identified(connection, one.attributes)) for one in study.series)
    return replace(study, attributes=_identified(connection, study.attributes), series=series)


def _identified(connection: Connection, attributes: DicomJson) -> DicomJson:
    current = patient_of(connection, attributes)
    return attributes if current is None else merged([attributes, demographics(current, attributes)])


def patient_of(connection: Connection, attributes: DicomJson) -> PatientIdentity | None:
    """The patient of a data set as told last; None if nothing was told."""
    patient_id = text(attributes, "PatientID")
    if not patient_id:
        return None
    return current_identity(connection, patient_id, text(attributes, "IssuerOfPatientID"))


def demographics(identity: PatientIdentity, attributes: DicomJson) -> DicomJson:
    """The attributes of a patient as told; those told of nothing are left as `attributes` have them."""
    parts: list[DicomJson] = []
    if not _is_same(identity, text(attributes, "PatientID"), text(attributes, "IssuerOfPatientID")):
        parts.append(element("PatientID", identity.patient_id))
        parts.append(element("IssuerOfPatientID", identity.issuer))
    if identity.name or "name" in identity.cleared:
        parts.append(element("PatientName", _person_name(identity.name)))
    if identity.birth_date or "birth_date" in identity.cleared:
        parts.append(element("PatientBirthDate", identity.birth_date))
    if identity.sex or "sex" in identity.cleared:
        parts.append(element("PatientSex", identity.sex))
    return merged(parts)


def _person_name(name: str) -> Any:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False)
    return {group: value for group, value in groups if value} or ""


def studies_of_patient(connection: Connection, patient_id: str) -> list[tuple[str, str, DicomJson]]:
    """(Study Instance UID, accession number, attributes) of every study of a patient id, rows locked."""
    statement = (
        select(_STUDY.c.study_instance_uid, _STUDY.c.accession_number, _STUDY.c.attributes)
        .where(_STUDY.c.patient_id == patient_id)
        .order_by(_STUDY.c.study_instance_uid)
        .with_for_update()
    )
    rows = connection.execute(statement)
    return [(row.study_instance_uid, row.accession_number, orjson.loads(row.attributes)) for row in rows]


def put_patient_of_study(connection: Connection, study_instance_uid: str, attributes: DicomJson) -> None:
    """Write who a study is of; its instances stay as they came."""
    connection.execute(
        update(_STUDY)
        .where(_STUDY.c.study_instance_uid == study_instance_uid)
        .values(
            patient_id=dicom_json.text(attributes, "PatientID"), attributes=orjson.dumps(attributes).decode()
        )
    )


def unfinished_of_patient(connection: Connection, patient_id: str) -> Sequence[str]:
    """UIDs of the workitems of a patient id that are not final."""
    statement = select(_WORKITEM.c.uid).where(
        _WORKITEM.c.patient_id == patient_id, _WORKITEM.c.state.in_(("SCHEDULED", "IN PROGRESS"))
    )
    return list(connection.execute(statement.order_by(_WORKITEM.c.uid)).scalars())


def _is_same(identity: PatientIdentity, patient_id: str, issuer: str) -> bool:
    return identity.patient_id == patient_id and same_issuer(identity.issuer, issuer)


def _told(identity: PatientIdentity, name: str, told: str, known: str) -> str:
    return told if told or name in identity.cleared else known


def _put(connection: Connection, values: dict[str, Any]) -> None:
    statement = upsert(connection, _IDENTITY).values(values)
    changes = {name: value for name, value in values.items() if name not in ("patient_id", "issuer")}
    connection.execute(statement.on_conflict_do_update(index_elements=["patient_id", "issuer"], set_=changes))


def _exact(connection: Connection, patient_id: str, issuer: str) -> Row[Any] | None:
    statement = select(_IDENTITY).where(_IDENTITY.c.patient_id == patient_id, _IDENTITY.c.issuer == issuer)
    return connection.execute(statement).first()


def _row(connection: Connection, patient_id: str, issuer: str) -> Row[Any] | None:
    rows = connection.execute(select(_IDENTITY).where(_IDENTITY.c.patient_id == patient_id)).all()
    exact = [row for row in rows if row.issuer == issuer]
    if exact:
        return exact[0]
    fitting = [row for row in rows if same_issuer(row.issuer, issuer)]
    return fitting[0] if len(fitting) == 1 and not is_shared_id(connection, patient_id, issuer) else None
