# SPDX-License-Identifier: Apache-2.0
"""Statements over reports of other examinations. Each takes a connection; none commits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection, select, update

from profiles.codes import Code
from profiles.order import MessageKey
from profiles.patient import PriorReport
from task_manager.store.identities import is_shared_id, same_issuer
from task_manager.store.patient_tables import PriorReportRow
from task_manager.store.studies import upsert

_REPORT = PriorReportRow.metadata.tables["prior_report"]
_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """A report with who sent it and when."""

    report: PriorReport
    received_at: datetime


def put_report(connection: Connection, report: PriorReport, *, sender: MessageKey, now: datetime) -> None:
    """Keep a report: new, or in the place of its former version (same sender, number and procedure).

    A version that its sender wrote before the one that is kept comes too late.
    """
    code = report.procedure.value if report.procedure else report.description
    parts = (sender.sending_application, sender.sending_facility, report.report_number, code)
    key = "|".join(part.replace("|", "/") for part in parts)
    kept = connection.execute(select(_REPORT.c.content).where(_REPORT.c.report_key == key)).scalar()
    before = _report(kept).reported_at if kept is not None else None
    if before is not None and report.reported_at is not None and report.reported_at < before:
        return
    values = {
        "report_key": key,
        "patient_id": report.patient_id,
        "issuer": report.issuer_of_patient_id,
        "accession_number": report.accession_number,
        "study_instance_uid": report.study_instance_uid,
        "order_number": report.placer_order_number or report.filler_order_number,
        "status": report.status,
        "content": orjson.dumps(asdict(report)).decode(),
        "observed_at": report.observed_at,
        "received_at": now,
    }
    statement = upsert(connection, _REPORT).values(values)
    changes = {name: value for name, value in values.items() if name != "report_key"}
    connection.execute(statement.on_conflict_do_update(index_elements=["report_key"], set_=changes))


def reports_of_patient(connection: Connection, patient_id: str, issuer: str) -> list[KeptReport]:
    """The reports of a patient but for withdrawn ones (status X), the latest examination first."""
    if not patient_id:
        return []
    statement = (
        select(_REPORT.c.content, _REPORT.c.issuer, _REPORT.c.received_at)
        .where(_REPORT.c.patient_id == patient_id, _REPORT.c.status != "X")
        .order_by(_REPORT.c.observed_at.desc().nulls_last(), _REPORT.c.report_key)
        .limit(_MOST)
    )
    rows = connection.execute(statement).all()
    others = any(row.issuer != issuer for row in rows)
    shared = others and is_shared_id(connection, patient_id, issuer)
    return [
        KeptReport(report=_report(row.content), received_at=row.received_at)
        for row in rows
        if row.issuer == issuer or (not shared and same_issuer(row.issuer, issuer))
    ]


def move_reports(
    connection: Connection, former_id: str, former_issuer: str, patient_id: str, issuer: str, *, shared: bool
) -> int:
    """Give the reports of a patient id to another; how many. Of a `shared` id only its issuer's own."""
    found = connection.execute(
        select(_REPORT.c.report_key, _REPORT.c.content, _REPORT.c.issuer).where(
            _REPORT.c.patient_id == former_id
        )
    ).all()
    rows = [
        row
        for row in found
        if row.issuer == former_issuer or (not shared and same_issuer(row.issuer, former_issuer))
    ]
    for row in rows:
        content = {**orjson.loads(row.content), "patient_id": patient_id, "issuer_of_patient_id": issuer}
        connection.execute(
            update(_REPORT)
            .where(_REPORT.c.report_key == row.report_key)
            .values(patient_id=patient_id, issuer=issuer, content=orjson.dumps(content).decode())
        )
    return len(rows)


def _report(content: str) -> PriorReport:
    kept = orjson.loads(content)
    for name in ("observed_at", "reported_at"):
        kept[name] = datetime.fromisoformat(kept[name]) if kept[name] else None
    return PriorReport(
        **{
            **kept,
            "procedure": Code(**kept["procedure"]) if kept["procedure"] else None,
            "findings": tuple((name, value) for name, value in kept["findings"]),
            "attachments": tuple(kept["attachments"]),
            "extra_segments": tuple(kept["extra_segments"]),
        }
    )
