# SPDX-License-Identifier: Apache-2.0
"""Finding and opening stored instances, for QIDO-RS, WADO-RS and deliveries.

Implements :class:`task_manager.ports.InstanceArchive` and :class:`task_manager.study.query.Holdings`; answers
are DICOM JSON (PS3.18 10.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from profiles.dicom_json import DicomJson
from task_manager.ports import ObjectStore
from task_manager.store import studies
from task_manager.store.database import Database
from task_manager.store.holdings_search import matches
from task_manager.study.model import Instance
from task_manager.study.query import HoldingsQuery


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
        with self._database.read() as connection, closing(matches(connection, query)) as found:
            return list(islice(found, query.offset, query.offset + query.limit))

    def open_path(self, instance: Instance) -> Path:
        """The file of `instance`."""
        return self._objects.absolute(instance.path)
