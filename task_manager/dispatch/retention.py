# SPDX-License-Identifier: Apache-2.0
"""When finished work is deleted, and what keeps it: a schedule over the statements of the store.

Final workitems are kept 24 hours at least (IHE RAD TF-2:4.85.4.1.3) and as long as a watcher holds a deletion
lock (PS3.4 CC.2.1.3). Work is done in small transactions, so that no writer waits long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

from task_manager.dispatch.model import RetentionLimits
from task_manager.store import history_retention, retention
from task_manager.store.database import Database

_LOG = logging.getLogger(__name__)
LEAST_KEPT = timedelta(hours=24)
"""How long final workitems are kept whatever is configured."""
_BETWEEN_ROUNDS = timedelta(minutes=10)
_WORKITEMS_AT_ONCE = 50
_ROWS_AT_ONCE = 500
_MOST_STEPS = 20


class Retention:
    """Deletes what is past its limit, a bounded part in each call."""

    def __init__(self, database: Database, limits: RetentionLimits, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self._next_round: datetime | None = None
        self._job_position = 0

    @property
    def next_due(self) -> datetime | None:
        """When the next round begins; None before the first."""
        return self._next_round

    def run_due(self) -> int:
        """Delete what is due, if it is time for a round; how many rows of all kinds went.

        Raises
        ------
        StoreError
            If the database fails; what was deleted until then stays deleted.
        """
        now = self._clock()
        if self._next_round is not None and now < self._next_round:
            return 0
        deleted = 0
        unfinished = False
        for step in (self._workitems, self._reports, self._jobs, self._availability, *self._histories()):
            for _ in range(_MOST_STEPS):
                number, more = step(now)
                deleted += number
                if not more:
                    break
            else:
                unfinished = True
        self._next_round = now if unfinished else now + _BETWEEN_ROUNDS
        return deleted

    def _workitems(self, now: datetime) -> tuple[int, bool]:
        before = now - max(self._limits.workitems, LEAST_KEPT)
        with self._database.write() as connection:
            uids = retention.purge_workitems(connection, before, now=now, limit=_WORKITEMS_AT_ONCE)
        for uid in uids:
            _LOG.info("workitem deleted", extra={"action": "workitem.purged", "workitem": uid})
        return len(uids), len(uids) == _WORKITEMS_AT_ONCE

    def _reports(self, now: datetime) -> tuple[int, bool]:
        with self._database.write() as connection:
            number = retention.purge_reports(connection, now - self._limits.reports, limit=_ROWS_AT_ONCE)
        return number, number == _ROWS_AT_ONCE

    def _jobs(self, now: datetime) -> tuple[int, bool]:
        before = now - self._limits.jobs
        with self._database.read() as connection:
            ids, position = retention.old_jobs(
                connection, before, after_id=self._job_position, limit=_ROWS_AT_ONCE
            )
        number = 0
        if ids:
            with self._database.write() as connection:
                number = retention.purge_jobs(connection, ids)
        self._job_position = position or 0
        return number, position is not None

    def _histories(self) -> Iterator[Callable[[datetime], tuple[int, bool]]]:
        """One step for each kind of history."""
        limits = self._limits
        for purge, kept in (
            (history_retention.purge_messages, limits.messages),
            (history_retention.purge_order_changes, limits.histories),
            (history_retention.purge_identity_changes, limits.histories),
            (history_retention.purge_performed_steps, limits.histories),
            (history_retention.purge_evidence, limits.histories),
            (history_retention.purge_prior_reports, limits.prior_reports),
            (history_retention.purge_explanations, limits.explanations),
            (history_retention.purge_events, limits.events),
        ):
            yield partial(self._history, purge, kept)
        yield self._keeps

    def _history(self, purge: Callable[..., int], kept: timedelta, now: datetime) -> tuple[int, bool]:
        with self._database.write() as connection:
            number = purge(connection, now - kept, limit=_ROWS_AT_ONCE)
        return number, number == _ROWS_AT_ONCE

    def _keeps(self, now: datetime) -> tuple[int, bool]:
        with self._database.write() as connection:
            return history_retention.purge_keeps(connection, now), False

    def _availability(self, now: datetime) -> tuple[int, bool]:
        before = now - max(self._limits.workitems, LEAST_KEPT)
        with self._database.write() as connection:
            number = retention.purge_availability(connection, before, limit=_ROWS_AT_ONCE)
        return number, number >= _ROWS_AT_ONCE
