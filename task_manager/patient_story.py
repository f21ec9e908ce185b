# SPDX-License-Identifier: Apache-2.0
"""What other systems told about the order and the patient of a study, gathered for people.

Identifiers, times and the names of changed fields are in it; names of patients and texts of reports are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from profiles.patient import PriorReport
from task_manager.store import identities, orders, prior_reports
from task_manager.store.database import Connection
from task_manager.store.identities import IdentityRecord
from task_manager.store.orders import OrderChange


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSummary:
    """A report of another examination; its text stays in the store."""

    report_number: str
    accession_number: str
    description: str
    status: str
    observed_at: datetime | None
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldStory:
    """What was told, each the oldest first, reports the latest examination first.

    Attributes
    ----------
    orders
        Messages about the order, with what each came to.
    identities
        Updates and merges of the patient.
    priors
        Reports of earlier examinations.
    """

    orders: tuple[OrderChange, ...] = ()
    identities: tuple[IdentityRecord, ...] = ()
    priors: tuple[PriorSummary, ...] = ()


def told_story(connection: Connection, *, order_key: str, patient_id: str, issuer: str) -> ToldStory:
    """What was told about an order (empty: there is none) and a patient."""
    return ToldStory(
        orders=tuple(orders.changes_of(connection, order_key)) if order_key else (),
        identities=tuple(
            record
            for record in identities.changes_of(connection, patient_id)
            if identities.same_issuer(issuer, record.issuer)
            or identities.same_issuer(issuer, record.former_issuer)
        ),
        priors=tuple(
            _summary(kept.report, kept.received_at)
            for kept in prior_reports.reports_of_patient(connection, patient_id, issuer)
        ),
    )


def _summary(report: PriorReport, received_at: datetime) -> PriorSummary:
    return PriorSummary(
        report_number=report.report_number,
        accession_number=report.accession_number,
        description=report.description,
        status=report.status,
        observed_at=report.observed_at,
        received_at=received_at,
    )
