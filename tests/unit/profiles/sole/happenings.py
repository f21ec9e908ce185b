# SPDX-License-Identifier: Apache-2.0
"""A complete operational event for the tests of SOLE."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from profiles.sole.events import EventType, OperationalEvent

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
EVENT = OperationalEvent(
    key="k1",
    type=EventType.PROCESSING_COMPLETED,
    occurred_at=datetime(2026, 5, 4, 9, 15, 27, 120000, tzinfo=UTC),
    machine="AIENGINE",
    machine_address="ai01.example.org",
    function="lung-ct 0.1.0",
    patient_id="12345",
    issuer_of_patient_id="HOSP",
    study_instance_uid="1.2.840.99999.1",
    accession_number="ACC100",
    order_number="P100",
    workitem_uid="1.2.840.99999.7",
    destination="PACS1",
    instances=((SEG, "1.2.3.1"), (SR, "1.2.3.2"), (SEG, "1.2.3.3")),
)


def event(**changes: Any) -> OperationalEvent:
    """The sample event with changes."""
    return replace(EVENT, **changes)
