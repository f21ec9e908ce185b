# SPDX-License-Identifier: Apache-2.0
"""The answers of a search over what is stored: rows that match, with what is counted of their studies."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from sqlalchemy import Connection

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from task_manager.store import holdings, studies
from task_manager.store.holdings import Holding
from task_manager.study.model import Series
from task_manager.study.query import HoldingsQuery, Level, fits, split_keys

_Answers = Generator[DicomJson, None, None]


def matches(connection: Connection, query: HoldingsQuery) -> _Answers:
    """What matches, one after the other; close it when there is enough."""
    return {Level.STUDY: _studies, Level.SERIES: _series, Level.INSTANCE: _instances}[query.level](
        connection, query
    )


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
