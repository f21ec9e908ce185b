# SPDX-License-Identifier: Apache-2.0
"""Statements that search studies, series and instances; UIDs, patient and accession number use an index.

They stream: who has enough closes the generator. Keys without a column are matched by who reads the rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, select

from profiles.dicom_json import DicomJson
from task_manager.store.held import is_held
from task_manager.store.tables import METADATA
from task_manager.study.query import HoldingsQuery

_STUDY = METADATA.tables["study"]
_SERIES = METADATA.tables["series"]
_INSTANCE = METADATA.tables["instance"]
_AT_A_TIME = 100
_MOST_UIDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One row: its UIDs and its header; what is not of its level is empty."""

    study_instance_uid: str
    series_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    attributes: DicomJson


def search_studies(connection: Connection, query: HoldingsQuery) -> Generator[Sequence[Holding], None, None]:
    """Studies that may match, some at a time, newest first."""
    wanted = [
        *_study_columns(query),
        _holds_any(_INSTANCE.c.study_instance_uid == _STUDY.c.study_instance_uid),
    ]
    if uids := query.uids("SeriesInstanceUID"):
        wanted.append(
            _STUDY.c.study_instance_uid.in_(
                select(_SERIES.c.study_instance_uid).where(_SERIES.c.series_instance_uid.in_(uids))
            )
        )
    statement = (
        select(_STUDY.c.study_instance_uid, _STUDY.c.attributes)
        .where(and_(True, *wanted))
        .order_by(_STUDY.c.first_received_at.desc(), _STUDY.c.study_instance_uid)
    )
    for rows in _partitions(connection, statement):
        yield [Holding(study_instance_uid=row.study_instance_uid, attributes=_header(row)) for row in rows]


def search_series(connection: Connection, query: HoldingsQuery) -> Generator[Sequence[Holding], None, None]:
    """Series that may match, some at a time, those of one study together."""
    wanted = [
        _SERIES.c.study_instance_uid == _STUDY.c.study_instance_uid,
        _holds_any(
            (_INSTANCE.c.study_instance_uid == _SERIES.c.study_instance_uid)
            & (_INSTANCE.c.series_instance_uid == _SERIES.c.series_instance_uid)
        ),
        *_study_columns(query),
    ]
    if uids := query.uids("SeriesInstanceUID"):
        wanted.append(_SERIES.c.series_instance_uid.in_(uids[:_MOST_UIDS]))
    statement = (
        select(_SERIES.c.study_instance_uid, _SERIES.c.series_instance_uid, _SERIES.c.attributes)
        .where(and_(*wanted))
        .order_by(
            _STUDY.c.first_received_at.desc(), _STUDY.c.study_instance_uid, _SERIES.c.series_instance_uid
        )
    )
    for rows in _partitions(connection, statement):
        yield [
            Holding(
                study_instance_uid=row.study_instance_uid,
                series_instance_uid=row.series_instance_uid,
                attributes=_header(row),
            )
            for row in rows
        ]


def search_instances(
    connection: Connection, query: HoldingsQuery
) -> Generator[Sequence[Holding], None, None]:
    """Instances that may match (first copies), some at a time, by study, series and instance number."""
    wanted: list[ColumnElement[bool]] = [_INSTANCE.c.copy_number == 0, is_held()]
    for keyword, column in (
        ("StudyInstanceUID", _INSTANCE.c.study_instance_uid),
        ("SeriesInstanceUID", _INSTANCE.c.series_instance_uid),
        ("SOPInstanceUID", _INSTANCE.c.sop_instance_uid),
        ("SOPClassUID", _INSTANCE.c.sop_class_uid),
    ):
        if uids := query.uids(keyword):
            wanted.append(column.in_(uids[:_MOST_UIDS]))
    by_study = _study_columns(query, uid=False)
    if by_study:
        wanted.append(
            _INSTANCE.c.study_instance_uid.in_(select(_STUDY.c.study_instance_uid).where(and_(*by_study)))
        )
    statement = (
        select(
            _INSTANCE.c.study_instance_uid,
            _INSTANCE.c.series_instance_uid,
            _INSTANCE.c.transfer_syntax_uid,
            _INSTANCE.c.attributes,
        )
        .where(and_(*wanted))
        .order_by(
            _INSTANCE.c.study_instance_uid,
            _INSTANCE.c.series_instance_uid,
            _INSTANCE.c.instance_number,
            _INSTANCE.c.sop_instance_uid,
        )
    )
    for rows in _partitions(connection, statement):
        yield [
            Holding(
                study_instance_uid=row.study_instance_uid,
                series_instance_uid=row.series_instance_uid,
                transfer_syntax_uid=row.transfer_syntax_uid,
                attributes=_header(row),
            )
            for row in rows
        ]


def _holds_any(of_what: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a first copy of something is here: what was removed by policy is not shown."""
    return exists().where(of_what, _INSTANCE.c.copy_number == 0, is_held())


def _study_columns(query: HoldingsQuery, *, uid: bool = True) -> list[ColumnElement[bool]]:
    """What the columns of a study can tell; values are compared once more as the standard has it."""
    wanted: list[ColumnElement[bool]] = []
    if uid and (uids := query.uids("StudyInstanceUID")):
        wanted.append(_STUDY.c.study_instance_uid.in_(uids[:_MOST_UIDS]))
    for keyword, column in (
        ("PatientID", _STUDY.c.patient_id),
        ("AccessionNumber", _STUDY.c.accession_number),
    ):
        if text := query.exact(keyword):
            wanted.append(column == text)
        elif prefix := query.prefix(keyword):
            wanted.append(column.startswith(prefix, autoescape=True))
    return wanted


def _partitions(connection: Connection, statement: Select[Any]) -> Iterable[Sequence[Row[Any]]]:
    with connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}) as found:
        yield from found.partitions()


def _header(row: Row[Any]) -> DicomJson:
    attributes: DicomJson = orjson.loads(row.attributes)
    return attributes
