# SPDX-License-Identifier: Apache-2.0
"""The tables of what HL7 tells beside orders: who patients are now, what changed, and earlier reports.

Rows hold identifiers, demographics and texts of patients; the names of changed fields stand in the histories,
their values never do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from task_manager.store.tables import METADATA, Table, UtcText

ORDER_PATIENT = Index("order_patient", METADATA.tables["imaging_order"].c.patient_id)
"""A merge looks for the orders of a patient."""


def _time(*, nullable: bool = False) -> Any:
    return Column(UtcText(), nullable=nullable)


class PatientIdentityRow(Table, table=True):
    """What was told last of a patient id; `survivor_id` names the patient it was merged into, if it was.

    An empty demographic value tells nothing: the images' and the order's own stay.
    """

    __tablename__ = "patient_identity"
    __table_args__ = (Index("patient_survivor", "survivor_id"),)

    patient_id: str = Field(primary_key=True)
    issuer: str = Field(primary_key=True)
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    survivor_id: str = ""
    survivor_issuer: str = ""
    changed_at: datetime = Field(sa_column=_time())


class IdentityChangeRow(Table, table=True):
    """One change of who a patient is, as it was told; `fields` names what it changed."""

    __tablename__ = "identity_change"
    __table_args__ = (
        Index("identity_patient", "patient_id", "id"),
        Index("identity_former", "former_id", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    patient_id: str
    issuer: str
    former_id: str = ""
    former_issuer: str = ""
    fields: str = ""
    sender: str = ""
    control_id: str = ""
    changed_at: datetime = Field(sa_column=_time())


class OrderChangeRow(Table, table=True):
    """One message about an order: what it asked, what it changed and what that came to."""

    __tablename__ = "order_change"
    __table_args__ = (Index("order_change_order", "order_key", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    order_key: str
    control: str
    order_status: str = ""
    fields: str = ""
    effect: str = ""
    sender: str = ""
    control_id: str = ""
    changed_at: datetime = Field(sa_column=_time())


class PriorReportRow(Table, table=True):
    """A report of an earlier examination that a RIS sent; the newest version under its key."""

    __tablename__ = "prior_report"
    __table_args__ = (
        Index("prior_patient", "patient_id", "observed_at"),
        Index("prior_accession", "accession_number"),
    )

    report_key: str = Field(primary_key=True)
    patient_id: str
    issuer: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""
    order_number: str = ""
    status: str = ""
    content: str = Field(sa_column=Column(Text, nullable=False))
    observed_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    received_at: datetime = Field(sa_column=_time())
