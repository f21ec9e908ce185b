# SPDX-License-Identifier: Apache-2.0
"""Finding and opening stored instances, for QIDO-RS, WADO-RS and deliveries.

Implements :class:`task_manager.ports.InstanceArchive` and :class:`task_manager.study.query.Holdings`; answers
are DICOM JSON (PS3.18 10.6).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from task_manager.ports import ObjectStore
from task_manager.store import holdings, studies
from task_manager.store.database import Database
from task_manager.store.holdings import Holding
from task_manager.study.model import Instance, Series
from task_manager.study.query import HoldingsQuery, Level, fits, split_keys


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

    def search(self, query: HoldingsQuery) -> Sequence[DicomJson]:
        """One page of matches; see :class:`task_manager.study.query.Holdings`."""
        matching = {Level.STUDY: _studies, Level.SERIES: _series, Level.INSTANCE: _instances}[query.level]
        with self._database.read() as connection, closing(matching(connection, query)) as found:
            return list(islice(found, query.offset, query.offset + query.limit))

    def open_path(self, instance: Instance) -> Path:
        """The file of `instance`."""
        return self._objects.absolute(instance.path)


_Answers = Generator[DicomJson, None, None]


def _studies(connection: Connection, query: HoldingsQuery) -> _Answers:
    own, of_series = split_keys(query.matching)
    with closing(holdings.search_studies(connection, query)) as found:
        for rows in found:
            kept = [row for row in rows if fits(own, row.attributes)]
            series = studies.series_of_studies(connection, [row.study_instance_uid for row in kept])
            for row in kept:
                answer = _study_answer(row, series[row.study_instance_uid])
                if fits(of_series, answer):
                    yield answer


def _series(connection: Connection, query: HoldingsQuery) -> _Answers:
    own, of_series = split_keys(query.matching)
    with closing(holdings.search_series(connection, query)) as found:
        for rows in found:
            kept = [row for row in rows if fits(own, row.attributes)]
            series = studies.series_of_studies(
                connection, list(dict.fromkeys(row.study_instance_uid for row in kept))
            )
            for row in kept:
                siblings = series[row.study_instance_uid]
                number = next(
                    one.number_of_instances
                    for one in siblings
                    if one.series_instance_uid == row.series_instance_uid
                )
                answer = dicom_json.merged(
                    (
                        _study_answer(row, siblings),
                        dicom_json.element("SeriesInstanceUID", row.series_instance_uid),
                        dicom_json.element("NumberOfSeriesRelatedInstances", number),
                    )
                )
                if fits(of_series, answer):
                    yield answer


def _instances(connection: Connection, query: HoldingsQuery) -> _Answers:
    own, of_series = split_keys(query.matching)
    with closing(holdings.search_instances(connection, query)) as found:
        for rows in found:
            shown = [(row, row.attributes | _syntax(row)) for row in rows]
            kept = [(row, answer) for row, answer in shown if fits(own, answer)]
            series = studies.series_of_studies(
                connection, list({row.study_instance_uid for row, _ in kept}) if of_series else []
            )
            for row, answer in kept:
                if not of_series or fits(of_series, _study_answer(row, series[row.study_instance_uid])):
                    yield answer


def _syntax(row: Holding) -> DicomJson:
    return dicom_json.element("AvailableTransferSyntaxUID", row.transfer_syntax_uid)


def _study_answer(row: Holding, series: Sequence[Series]) -> DicomJson:
    """The attributes of `row` with what is counted of its study."""
    modalities = sorted({dicom_json.text(one.attributes, "Modality") for one in series} - {""})
    classes = sorted({uid for one in series for uid in one.sop_class_uids})
    number = sum(one.number_of_instances for one in series)
    return dicom_json.merged(
        (
            row.attributes,
            dicom_json.element("StudyInstanceUID", row.study_instance_uid),
            dicom_json.element("ModalitiesInStudy", *modalities),
            dicom_json.element("SOPClassesInStudy", *classes),
            dicom_json.element("NumberOfStudyRelatedSeries", len(series)),
            dicom_json.element("NumberOfStudyRelatedInstances", number),
        )
    )
