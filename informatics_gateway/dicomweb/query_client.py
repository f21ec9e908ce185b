# SPDX-License-Identifier: Apache-2.0
"""Asks an archive by QIDO-RS which instances of a study it has (PS3.18 10.6).

Implements :class:`task_manager.dispatch.readiness.ArchiveQuery`.
"""

from __future__ import annotations

from pathlib import Path

from informatics_gateway.dicomweb.outbound import DicomWebService
from profiles.dicom_json import DicomJson, text
from profiles.uids import is_uid
from task_manager.errors import RetryableDeliveryError

MOST_INSTANCES = 100_000
"""Instances of one study that are read; an archive that tells more is not believed."""

_PAGE = 1000
_RETRIEVABLE = ("", "ONLINE", "NEARLINE")  # most archives do not tell: what they list they have


class DicomWebArchive:
    """An archive with a DICOMweb service.

    Parameters
    ----------
    name
        What it is called in logs.
    base_url, token_file, timeout_s
        See :class:`~informatics_gateway.dicomweb.outbound.DicomWebService`.

    Attributes
    ----------
    name, url, ae_title
        As :class:`task_manager.dispatch.readiness.ArchiveQuery` asks for.

    Raises
    ------
    ConfigurationError
        If the address is not safe to use.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        ae_title: str = "",
        token_file: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.name = name
        self.ae_title = ae_title
        self._service = DicomWebService(base_url, token_file=token_file, timeout_s=timeout_s)
        self.url = self._service.base_url

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def available_instances(self, study_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a study that can be retrieved from it.

        Raises
        ------
        RetryableDeliveryError
            If it does not answer, or answers what cannot be.
        FinalDeliveryError
            If it refuses.
        """
        if not is_uid(study_instance_uid):
            return frozenset()
        found: set[str] = set()
        offset = 0
        while page := self._page(study_instance_uid, offset):
            known = len(found)
            found.update(uid for one in page if (uid := _retrievable(one)))
            offset += len(page)
            if offset > MOST_INSTANCES:
                raise RetryableDeliveryError("the archive tells more instances than a study can have")
            if len(page) < _PAGE or len(found) == known:  # the last page, or one that it repeats
                break
        return frozenset(found)

    def _page(self, study_instance_uid: str, offset: int) -> list[DicomJson]:
        answer = self._service.ask(
            "GET",
            f"/studies/{study_instance_uid}/instances",
            query=(("includefield", "00080056"), ("limit", str(_PAGE)), ("offset", str(offset))),
            expected=(200, 204, 404),
        )
        return answer.data_sets() if answer.status == 200 else []


def _retrievable(answer: DicomJson) -> str:
    """The instance of a QIDO answer, if it can be retrieved."""
    uid = text(answer, "SOPInstanceUID")
    return uid if is_uid(uid) and text(answer, "InstanceAvailability").strip() in _RETRIEVABLE else ""
