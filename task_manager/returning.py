# SPDX-License-Identifier: Apache-2.0
"""Instances that a policy removed and that come again.

The same data set takes its former place: it is held again, and is no new evidence for its study. Other
bytes, as under any known UID, are kept apart; that is decided by who calls.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from task_manager.errors import StoreError, facts_of
from task_manager.ports import ObjectStore
from task_manager.store import removals, wanted
from task_manager.store.checksums import checksum_of
from task_manager.store.database import Database

_LOG = logging.getLogger(__name__)


def take_back(
    database: Database,
    objects: ObjectStore,
    sop_instance_uid: str,
    copy_numbers: Sequence[int],
    *,
    path: str,
    size: int,
    now: datetime,
) -> bool:
    """Whether one of the removed copies had the data set of the object at `path`, which stands for it now.

    Raises
    ------
    StoreError
        If disk or database fail; nothing was changed.
    """
    try:
        checksum = checksum_of(objects.absolute(path))
    except OSError as error:
        raise StoreError("an object cannot be read") from error
    with database.write() as connection:
        for number in copy_numbers:
            removal = removals.removal_of(connection, sop_instance_uid, number)
            if removal is None or removal.data_set_sha256 != checksum.data_set_sha256:
                continue
            if removals.restore_instance(connection, removal, path=path, size=size, now=now):
                break
        else:
            return False
    _LOG.info("an instance came again", extra={"action": "instance.restored", "uid": sop_instance_uid})
    return True


def finishes_work(database: Database, study_instance_uid: str) -> bool:
    """Whether results of this study are to come, which are taken where images are not.

    A database that fails says no: nothing is acknowledged then anyway.
    """
    try:
        with database.read() as connection:
            return wanted.finishes_work(connection, study_instance_uid)
    except StoreError as error:
        _LOG.error("room cannot be given", extra={"action": "disk.reserve", **facts_of(error)})
        return False
