# SPDX-License-Identifier: Apache-2.0
"""Finding and opening stored instances, for QIDO-RS, WADO-RS and deliveries.

Implements :class:`task_manager.ports.InstanceArchive`; answers are DICOM JSON (PS3.18 10.6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from task_manager.ports import ObjectStore
from task_manager.store import studies
from task_manager.store.database import Database
from task_manager.study.model import Instance, Series, Study

_STUDY_COLUMNS = {
    "StudyInstanceUID": "study_instance_uid",
    "PatientID": "patient_id",
    "AccessionNumber": "accession_number",
}
_OF_SERIES = frozenset(
    ("Modality", "ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
)
_SERIES_LEVEL = (
    "SpecificCharacterSet",
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "BodyPartExamined",
    "Laterality",
    "SeriesDate",
    "SeriesTime",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)


class StoredArchive:
    """The stored instances as an archive shows them."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def find_instances(
        self, *, study_instance_uid: str = "", series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> Sequence[Instance]:
        """Stored instances, by series and instance number; all levels may be left open."""
        with self._database.read() as connection:
            return studies.find_instances(
                connection,
                study_instance_uid=study_instance_uid,
                series_instance_uids=(series_instance_uid,) if series_instance_uid else (),
                sop_instance_uids=(sop_instance_uid,) if sop_instance_uid else (),
            )

    def find_studies(self, matching: Mapping[str, str], *, offset: int, limit: int) -> Sequence[DicomJson]:
        """Study-level answers, newest first; keys without a column are matched on the stored attributes."""
        columns = {_STUDY_COLUMNS[key]: value for key, value in matching.items() if key in _STUDY_COLUMNS}
        rest = {key: value for key, value in matching.items() if key not in _STUDY_COLUMNS}
        own = {key: value for key, value in rest.items() if key not in _OF_SERIES}

        def wanted(attributes: DicomJson) -> bool:
            return _matches(attributes, own)

        with (
            self._database.read() as connection,
            closing(studies.studies_matching(connection, columns, wanted)) as found,
        ):
            answers = (answer for answer in map(_study_answer, found) if _matches(answer, rest))
            return list(islice(answers, offset, offset + limit))

    def find_series(self, study_instance_uid: str, matching: Mapping[str, str]) -> Sequence[DicomJson]:
        """Series-level answers of one study."""
        with self._database.read() as connection:
            found = studies.series_of(connection, study_instance_uid)
        answers = [_series_answer(study_instance_uid, series) for series in found]
        return [answer for answer in answers if _matches(answer, matching)]

    def open_path(self, instance: Instance) -> Path:
        """The file of `instance`."""
        return self._objects.absolute(instance.path)


def _study_answer(study: Study) -> DicomJson:
    modalities = sorted({dicom_json.text(series.attributes, "Modality") for series in study.series} - {""})
    number = sum(series.number_of_instances for series in study.series)
    return dicom_json.merged(
        (
            study.attributes,
            dicom_json.element("StudyInstanceUID", study.study_instance_uid),
            dicom_json.element("ModalitiesInStudy", *modalities),
            dicom_json.element("NumberOfStudyRelatedSeries", len(study.series)),
            dicom_json.element("NumberOfStudyRelatedInstances", number),
        )
    )


def _series_answer(study_instance_uid: str, series: Series) -> DicomJson:
    keys = {dicom_json.tag_key(keyword) for keyword in _SERIES_LEVEL}
    return dicom_json.merged(
        (
            {key: value for key, value in series.attributes.items() if key in keys},
            dicom_json.element("StudyInstanceUID", study_instance_uid),
            dicom_json.element("NumberOfSeriesRelatedInstances", series.number_of_instances),
        )
    )


def _matches(answer: DicomJson, matching: Mapping[str, str]) -> bool:
    return all(_value_matches(answer, key, wanted) for key, wanted in matching.items())


def _value_matches(answer: DicomJson, keyword: str, wanted: str) -> bool:
    if wanted in ("", "*"):
        return True
    keyword = (
        "ModalitiesInStudy" if keyword == "Modality" and not dicom_json.values(answer, keyword) else keyword
    )
    seen = [
        str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)
        for value in dicom_json.values(answer, keyword)
    ]
    if "-" in wanted and keyword.endswith(("Date", "Time")):
        low, _, high = wanted.partition("-")
        return any((not low or value >= low) and (not high or value <= high) for value in seen)
    pattern = wanted.replace("[", "[[]")
    return any(fnmatchcase(value, pattern) for value in seen)
