# SPDX-License-Identifier: Apache-2.0
"""What an Instance Availability Notification says, and keeping it (PS3.4 R.3, IHE RAD-49).

A notification says that instances can be had, not that a study is whole (R.1.1): what is whole is known from
the workitem. Optional attributes that this service does not know are passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

from profiles.dicom_json import DicomJson, items, tag_key, text, values
from profiles.request import Request, RequestKind, Trigger, blank_order
from profiles.uids import is_uid
from profiles.ups.dataset import read_dataset
from task_manager.actor import Actor
from task_manager.errors import ConflictError, StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.request_intake import RequestIntake
from task_manager.store.availability import Availability, put_availability
from task_manager.store.database import Connection
from task_manager.store.evidence import note_evidence
from task_manager.study.evidence import availability_evidence
from task_manager.workitem.validate import Findings

_LOG = logging.getLogger(__name__)
_AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
_TO_BE_HAD = ("ONLINE", "NEARLINE")
_MOST_INSTANCES = 100_000
_TRIES = 5


def told_availability(notification: DicomJson, *, source: str, now: datetime) -> list[Availability] | Refused:
    """What a notification says of each instance, or all its faults.

    Parameters
    ----------
    source
        Who says it: their next word on an instance replaces this one.

    References
    ----------
    PS3.4 table R.3.2-1.
    """
    read = read_dataset(notification)
    findings = Findings()
    for fault in read.faults:
        findings.add(RefusalCode.INVALID_ATTRIBUTES, fault.path, fault.message)
    content = read.attributes
    _needs_uid(content, "StudyInstanceUID", "", findings)
    steps = "ReferencedPerformedProcedureStepSequence"
    if tag_key(steps) not in content:
        findings.add(RefusalCode.MISSING_ATTRIBUTE, steps, "is needed, empty if there is no such step")
    for index, step in enumerate(items(content, steps)):
        _needs_uid(step, "ReferencedSOPClassUID", f"{steps}[{index}].", findings)
        _needs_uid(step, "ReferencedSOPInstanceUID", f"{steps}[{index}].", findings)
    told: list[Availability] = []
    for index, series in enumerate(_needed_items(content, "ReferencedSeriesSequence", "", findings)):
        prefix = f"ReferencedSeriesSequence[{index}]."
        _needs_uid(series, "SeriesInstanceUID", prefix, findings)
        references = _needed_items(series, "ReferencedSOPSequence", prefix, findings)
        for number, reference in enumerate(references):
            told.append(
                _instance(reference, f"{prefix}ReferencedSOPSequence[{number}].", findings, source, now)
            )
    if len(told) > _MOST_INSTANCES:
        findings.add(
            RefusalCode.INVALID_ATTRIBUTES,
            "ReferencedSeriesSequence",
            f"names more than {_MOST_INSTANCES} instances",
        )
    return findings.refusal() or told


def _instance(
    reference: DicomJson, prefix: str, findings: Findings, source: str, now: datetime
) -> Availability:
    _needs_uid(reference, "ReferencedSOPClassUID", prefix, findings)
    uid = _needs_uid(reference, "ReferencedSOPInstanceUID", prefix, findings)
    availability = _needed(reference, "InstanceAvailability", prefix, findings)
    if availability and availability not in _AVAILABILITIES:
        message = f"must be one of {', '.join(_AVAILABILITIES)}"
        findings.add(RefusalCode.INVALID_ATTRIBUTES, f"{prefix}InstanceAvailability", message)
    return Availability(
        sop_instance_uid=uid,
        source=source,
        availability=availability,
        told_at=now,
        retrieve_ae_title=_needed(reference, "RetrieveAETitle", prefix, findings),
        retrieve_url=text(reference, "RetrieveURL"),
    )


def _needed(item: DicomJson, keyword: str, prefix: str, findings: Findings) -> str:
    """The value of a type 1 attribute; empty and a fault if there is none."""
    if tag_key(keyword) not in item:
        findings.add(RefusalCode.MISSING_ATTRIBUTE, f"{prefix}{keyword}", "is needed")
        return ""
    value = text(item, keyword).strip(" ")
    if not value:
        findings.add(RefusalCode.MISSING_VALUE, f"{prefix}{keyword}", "needs a value")
    return value


def _needs_uid(item: DicomJson, keyword: str, prefix: str, findings: Findings) -> str:
    value = _needed(item, keyword, prefix, findings)
    if value and not is_uid(value):
        findings.add(RefusalCode.INVALID_ATTRIBUTES, f"{prefix}{keyword}", "is no well-formed UID")
    return value


def _needed_items(item: DicomJson, keyword: str, prefix: str, findings: Findings) -> list[DicomJson]:
    if tag_key(keyword) not in item:
        findings.add(RefusalCode.MISSING_ATTRIBUTE, f"{prefix}{keyword}", "is needed")
    elif not values(item, keyword):
        findings.add(RefusalCode.MISSING_VALUE, f"{prefix}{keyword}", "needs at least one item")
    return items(item, keyword)


class StoredAvailability:
    """Implements :class:`task_manager.ports.AvailabilityIntake` on the database.

    Parameters
    ----------
    write
        Opens a transaction that is durable when it closes.
    told
        Called after each commit: workitems may have become ready, a study complete.
    requests
        Where a notification of something that can be had becomes a request for its study, if anywhere.
    """

    def __init__(
        self,
        write: Callable[[], AbstractContextManager[Connection]],
        *,
        clock: Callable[[], datetime],
        told: Callable[[], None],
        requests: RequestIntake | None = None,
    ) -> None:
        self._write = write
        self._requests = requests
        self._clock = clock
        self._told = told

    def receive_availability(self, notification: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Commit where instances are available, and only then accept; all faults are told at once.

        Raises
        ------
        StoreError
            If the database fails; nothing was acknowledged.
        """
        now = self._clock()
        found = told_availability(notification, source=f"ian:{actor.name}", now=now)
        if isinstance(found, Refused):
            return found
        for _ in range(_TRIES):
            try:
                self._keep(found, notification, actor, now)
            except ConflictError:  # another notification of the same study
                continue
            extra = {"action": "availability.told", "source": actor.name, "instances": len(found)}
            _LOG.info("instances are available", extra=extra)
            self._told()
            return Accepted()
        raise StoreError("a notification could not be recorded: others keep changing the same")

    def _keep(self, found: list[Availability], notification: DicomJson, actor: Actor, now: datetime) -> None:
        with self._write() as connection:
            put_availability(connection, found)
            note_evidence(connection, availability_evidence(notification, source=actor.name, now=now), now)
            if self._requests is not None and any(one.availability in _TO_BE_HAD for one in found):
                uid = text(notification, "StudyInstanceUID")
                request = Request(
                    name=f"{actor.name}:{uid}",
                    trigger=Trigger(kind=RequestKind.AVAILABILITY, source=actor.name),
                    asked=blank_order(study_instance_uid=uid),
                )
                self._requests.record_in(connection, request, actor=actor, now=now)
