# SPDX-License-Identifier: Apache-2.0
"""Asks an archive which instances of a study it has: C-FIND, study root (PS3.4 C.6.2).

By hierarchical search, which every archive supports: the series first, then the instances of each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context

from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from task_manager.errors import RetryableDeliveryError

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

MOST_INSTANCES = 100_000
"""Instances of one study that are read; an archive that tells more is not believed."""

_LONGEST_S = 600.0
_PENDING = frozenset((0xFF00, 0xFF01))
_OUT_OF_REACH = frozenset(("OFFLINE", "UNAVAILABLE"))


class DicomArchive:
    """One archive; implements :class:`task_manager.dispatch.readiness.ArchiveQuery`.

    Parameters
    ----------
    name
        What it is called in logs.
    timeout_s
        For connecting, association and each answer.
    """

    url = ""
    """There is no DICOMweb base."""

    def __init__(self, name: str, address: DicomAddress, *, timeout_s: float = 30.0) -> None:
        self.name = name
        self._address = address
        self._timeout_s = timeout_s

    @property
    def ae_title(self) -> str:
        """AE title to retrieve from by C-MOVE."""
        return self._address.called_ae_title

    def available_instances(self, study_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a study that can be retrieved: those not told to be OFFLINE or UNAVAILABLE.

        Raises
        ------
        RetryableDeliveryError
            If the archive cannot be asked now, or fails.
        FinalDeliveryError
            If it rejects us or the query model for good.
        """
        context = build_context(STUDY_ROOT_FIND, list(TRANSFER_SYNTAXES))
        with association([context], self._address, timeout_s=self._timeout_s) as archive:
            found = _instances(archive, study_instance_uid)
        return frozenset(uid for uid, availability in found.items() if availability not in _OUT_OF_REACH)


def _instances(archive: Any, study: str) -> dict[str, str]:
    """SOP Instance UID to Instance Availability (0008,0056), empty if the archive does not tell it."""
    found: dict[str, str] = {}
    series = [str(one.get("SeriesInstanceUID") or "") for one in _find(archive, "SERIES", study)]
    for uid in filter(None, series):
        for answer in _find(archive, "IMAGE", study, uid):
            instance = str(answer.get("SOPInstanceUID") or "")
            if instance:
                found[instance] = str(answer.get("InstanceAvailability") or "").strip()
            if len(found) > MOST_INSTANCES:
                raise RetryableDeliveryError("the archive tells more instances than a study can have")
    return found


def _find(archive: Any, level: str, study: str, series: str = "") -> Iterator[Dataset]:
    """The answers of one C-FIND.

    Raises
    ------
    RetryableDeliveryError
        If it does not end in success.
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = study
    identifier.SeriesInstanceUID = series
    identifier.InstanceAvailability = ""
    if level == "IMAGE":
        identifier.SOPInstanceUID = ""
    yield from pending_answers(archive, identifier)


def pending_answers(archive: Any, identifier: Dataset, *, longest_s: float = _LONGEST_S) -> Iterator[Dataset]:
    """The answers of one C-FIND, study root.

    Parameters
    ----------
    longest_s
        How long all answers together may take; the association is aborted then.

    Raises
    ------
    RetryableDeliveryError
        If it does not end in success, or not in time.
    """
    until = time.monotonic() + longest_s
    try:
        for status, answer in archive.send_c_find(identifier, STUDY_ROOT_FIND):
            if "Status" not in status:
                raise RetryableDeliveryError("no answer, or the archive ended the association")
            if time.monotonic() > until:
                archive.abort()
                raise RetryableDeliveryError("the archive answers without end")
            if status.Status in _PENDING and answer is not None:
                yield answer
            elif status.Status not in _PENDING and status.Status:
                raise RetryableDeliveryError(f"the archive answered {status.Status:04X}")
    except RuntimeError as error:  # the association ended since the last answer
        raise RetryableDeliveryError("the archive ended the association") from error
