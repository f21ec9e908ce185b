# SPDX-License-Identifier: Apache-2.0
"""Asks an archive for studies, series and instances by C-FIND, study root (PS3.4 C.6.2).

Answers are hostile input: bounded in number, read attribute by attribute, and dropped where a UID is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context

from informatics_gateway.dimse.query_scu import STUDY_ROOT_FIND, pending_answers
from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from profiles.uids import is_uid
from task_manager.errors import RetryableDeliveryError
from task_manager.fetching.archives import RemoteSeries, RemoteStudy, StudyQuestion

_MOST_SERIES = 5000
_LONGEST_TEXT = 64
_MOST_VALUES = 32
_STUDY_KEYS = (
    "StudyDate",
    "AccessionNumber",
    "ModalitiesInStudy",
    "StudyDescription",
    "PatientID",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "NumberOfStudyRelatedInstances",
)


class DimseStudyQuery:
    """The questions of a fetch to one archive.

    Parameters
    ----------
    name
        What the archive is called in the configuration.
    timeout_s
        For connecting, association and each answer.
    most_series
        Series of one study; an archive that tells more is not believed.
    longest_s
        How long all answers to one question may take.
    """

    def __init__(
        self,
        name: str,
        address: DicomAddress,
        *,
        timeout_s: float = 30.0,
        most_series: int = _MOST_SERIES,
        longest_s: float = 600.0,
    ) -> None:
        self.name = name
        self._address = address
        self._timeout_s = timeout_s
        self._most_series = most_series
        self._longest_s = longest_s

    def close(self) -> None:
        """Nothing stays open between questions."""

    def find_studies(self, question: StudyQuestion, *, limit: int) -> Sequence[RemoteStudy]:
        """Its studies that may match, at most `limit`.

        Raises
        ------
        DeliveryError
            If it does not answer, or refuses.
        """
        identifier = _identifier("STUDY", _STUDY_KEYS)
        given = {
            "StudyInstanceUID": question.study_instance_uid,
            "AccessionNumber": question.accession_number,
            "PatientID": question.patient_id,
        }
        for keyword, value in given.items():
            if value:
                setattr(identifier, keyword, value)
        if not (question.patient_id + question.accession_number).isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
        found: list[RemoteStudy] = []
        with self._asking() as archive:
            for answer in pending_answers(archive, identifier, longest_s=self._longest_s):
                study = self._study(answer)
                if is_uid(study.study_instance_uid):
                    found.append(study)
                if len(found) >= limit:
                    archive.abort()
                    break
        return found

    def find_series(self, study_instance_uid: str) -> Sequence[RemoteSeries]:
        """The series of a study without their instances.

        Raises
        ------
        DeliveryError
            If it does not answer, refuses, or names more than can be.
        """
        with self._asking() as archive:
            return self._series(archive, study_instance_uid)

    def find_instances(self, study_instance_uid: str, *, limit: int) -> Sequence[RemoteSeries]:
        """The series of a study with all their instances; none if it has not got the study.

        Raises
        ------
        DeliveryError
            If it does not answer, refuses, or names more than `limit`.
        """
        number = 0
        found = []
        with self._asking() as archive:
            for series in self._series(archive, study_instance_uid):
                identifier = _identifier("IMAGE", ("SOPClassUID", "SOPInstanceUID"))
                identifier.StudyInstanceUID = study_instance_uid
                identifier.SeriesInstanceUID = series.series_instance_uid
                instances: dict[str, str] = {}
                for answer in pending_answers(archive, identifier, longest_s=self._longest_s):
                    uid, kind = _text(answer, "SOPInstanceUID"), _text(answer, "SOPClassUID")
                    if is_uid(uid):
                        instances[uid] = kind if is_uid(kind) else ""
                    number += 1
                    if number > limit:
                        archive.abort()
                        raise RetryableDeliveryError("the archive tells more instances than a study can have")
                found.append(
                    RemoteSeries(
                        series_instance_uid=series.series_instance_uid,
                        body_part=series.body_part,
                        instances=instances,
                    )
                )
        return found

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        context = build_context(STUDY_ROOT_FIND, list(TRANSFER_SYNTAXES))
        with association([context], self._address, timeout_s=self._timeout_s) as archive:
            yield archive

    def _series(self, archive: Any, study_instance_uid: str) -> list[RemoteSeries]:
        identifier = _identifier("SERIES", ("SeriesInstanceUID", "BodyPartExamined"))
        identifier.StudyInstanceUID = study_instance_uid
        found: dict[str, RemoteSeries] = {}
        for answer in pending_answers(archive, identifier, longest_s=self._longest_s):
            uid = _text(answer, "SeriesInstanceUID")
            if is_uid(uid):
                found[uid] = RemoteSeries(
                    series_instance_uid=uid, body_part=_text(answer, "BodyPartExamined")
                )
            if len(found) > self._most_series:
                archive.abort()
                raise RetryableDeliveryError("the archive tells more series than a study can have")
        return list(found.values())

    def _study(self, answer: Dataset) -> RemoteStudy:
        number = _text(answer, "NumberOfStudyRelatedInstances")
        return RemoteStudy(
            archive=self.name,
            study_instance_uid=_text(answer, "StudyInstanceUID"),
            patient_id=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID"),
            accession_number=_text(answer, "AccessionNumber"),
            study_date=_text(answer, "StudyDate"),
            modalities=_texts(answer, "ModalitiesInStudy"),
            description=_text(answer, "StudyDescription"),
            instances=int(number) if number.isascii() and number.isdigit() and len(number) < 8 else 0,
        )


def _identifier(level: str, keywords: Sequence[str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keywords:
        setattr(identifier, keyword, "")
    return identifier


def _texts(answer: Dataset, keyword: str) -> tuple[str, ...]:
    """Values of an attribute; none of one that cannot be read."""
    try:
        value = answer.get(keyword)
        values = value if isinstance(value, list | tuple) or hasattr(value, "__iter__") else [value]
        several = [value] if isinstance(value, str) else values
        told = [str(one).strip()[:_LONGEST_TEXT] for one in list(several)[:_MOST_VALUES] if one is not None]
    except (AttributeError, LookupError, TypeError, ValueError, NotImplementedError):
        return ()
    return tuple(one for one in told if one)


def _text(answer: Dataset, keyword: str) -> str:
    found = _texts(answer, keyword)
    return found[0] if found else ""
