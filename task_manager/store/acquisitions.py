# SPDX-License-Identifier: Apache-2.0
"""What rules ask of a study beside headers of series: who sent it, and the headers of its images.

Bound to a connection; reads only what is asked for, and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
from sqlalchemy import Connection, select

from task_manager.actor import Source
from task_manager.rules.acquisition import ImageHeader
from task_manager.rules.functional_groups import with_functional_groups
from task_manager.store.held import is_held
from task_manager.store.tables import METADATA

_INSTANCE = METADATA.tables["instance"]
_AT_A_TIME = 200


class StoredAcquisition:
    """Implements :class:`task_manager.rules.acquisition.Acquisition` for one study of the store.

    Parameters
    ----------
    object_path
        Where the object with a path of the store lies, for what its header leaves out.
    """

    def __init__(
        self, connection: Connection, study_instance_uid: str, object_path: Callable[[str], Path]
    ) -> None:
        self._connection = connection
        self._object_path = object_path
        self._study_instance_uid = study_instance_uid
        self._sources: dict[str, list[Source]] | None = None

    def sources(self, series_instance_uid: str) -> Sequence[Source]:
        """Who sent images of a series, each once."""
        if self._sources is None:
            self._sources = {}
            statement = (
                select(_INSTANCE.c.series_instance_uid, _INSTANCE.c.source)
                .where(_INSTANCE.c.study_instance_uid == self._study_instance_uid)
                .distinct()
            )
            for uid, source in sorted(tuple(row) for row in self._connection.execute(statement)):
                self._sources.setdefault(uid, []).append(Source.of(source))
        return self._sources.get(series_instance_uid, ())

    def images(self, series_instance_uid: str) -> Iterator[ImageHeader]:
        """The images of a series by number, then UID, as they are read."""
        statement = (
            select(_INSTANCE)
            .where(
                _INSTANCE.c.study_instance_uid == self._study_instance_uid,
                _INSTANCE.c.series_instance_uid == series_instance_uid,
                _INSTANCE.c.copy_number == 0,
                is_held(),
            )
            .order_by(_INSTANCE.c.instance_number, _INSTANCE.c.sop_instance_uid)
        )
        with self._connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}) as rows:
            for row in rows:
                yield ImageHeader(
                    sop_instance_uid=row.sop_instance_uid,
                    instance_number=row.instance_number,
                    attributes=with_functional_groups(
                        orjson.loads(row.attributes), self._object_path(row.path)
                    ),
                )
