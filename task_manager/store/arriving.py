# SPDX-License-Identifier: Apache-2.0
"""Records of instances that arrive, many in one transaction.

The statements that run for every instance; what else is known of studies and instances is in ``studies.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, bindparam, select

from task_manager.store.compiled import Statement, utc_text
from task_manager.store.rowwise import inserting
from task_manager.store.tables import METADATA
from task_manager.study.model import Instance, InstanceHeader

_INSTANCE = METADATA.tables["instance"]
_SERIES = METADATA.tables["series"]

_COPIES = Statement(
    lambda _: (
        select(_INSTANCE.c.copy_number, _INSTANCE.c.path)
        .where(_INSTANCE.c.sop_instance_uid == bindparam("uid"))
        .order_by(_INSTANCE.c.copy_number)
    )
)
_ADD_INSTANCES = inserting(
    _INSTANCE,
    (
        "sop_instance_uid",
        "copy_number",
        "sop_class_uid",
        "series_instance_uid",
        "study_instance_uid",
        "transfer_syntax_uid",
        "instance_number",
        "path",
        "size",
        "received_at",
        "source",
        "attributes",
    ),
)
_SERIES_KEY = ("series_instance_uid", "study_instance_uid")
_ADD_SERIES = inserting(_SERIES, (*_SERIES_KEY, "attributes"), unless=_SERIES_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An instance to be recorded, the how manieth of its UID it is, and where it came from."""

    instance: Instance
    copy_number: int
    source: str


def copies_of(connection: Connection, sop_instance_uid: str) -> list[tuple[int, str]]:
    """(copy number, path) of everything kept under a SOP Instance UID."""
    return [(number, path) for number, path in _COPIES.rows(connection, {"uid": sop_instance_uid})]


def add_instances(connection: Connection, recorded: Sequence[Recorded]) -> None:
    """Record stored instances."""
    _ADD_INSTANCES.run(
        connection,
        [
            {
                "sop_instance_uid": one.instance.sop_instance_uid,
                "copy_number": one.copy_number,
                "sop_class_uid": one.instance.sop_class_uid,
                "series_instance_uid": one.instance.series_instance_uid,
                "study_instance_uid": one.instance.study_instance_uid,
                "transfer_syntax_uid": one.instance.transfer_syntax_uid,
                "instance_number": one.instance.instance_number,
                "path": one.instance.path,
                "size": one.instance.size,
                "received_at": utc_text(one.instance.received_at),
                "source": one.source,
                "attributes": orjson.dumps(one.instance.attributes).decode(),
            }
            for one in recorded
        ],
    )


def add_series(connection: Connection, headers: Iterable[InstanceHeader]) -> None:
    """Remember series by the header of their first instance; known ones stay as they are."""
    firsts: dict[tuple[str, str], InstanceHeader] = {}
    for header in headers:
        firsts.setdefault((header.series_instance_uid, header.study_instance_uid), header)
    _ADD_SERIES.run(
        connection,
        [
            {
                "series_instance_uid": header.series_instance_uid,
                "study_instance_uid": header.study_instance_uid,
                "attributes": orjson.dumps(header.attributes).decode(),
            }
            for header in firsts.values()
        ],
    )
