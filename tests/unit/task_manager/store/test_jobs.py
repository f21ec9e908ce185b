# SPDX-License-Identifier: Apache-2.0
"""Jobs that tell events: one for each repository, in the order of the events."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text

from profiles.sole.events import EventType, OperationalEvent
from task_manager.store import jobs
from tests.service import TestBed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD = 400


def _event(key: str) -> OperationalEvent:
    return OperationalEvent(key=key, type=EventType.STUDY_IMPORTED, occurred_at=NOW)


def _told(bed: TestBed, lane: str) -> list[str]:
    statement = (
        "SELECT event.key FROM job JOIN event ON event.id = event_id WHERE lane = :lane ORDER BY job.id"
    )
    with bed.database.read() as connection:
        return list(connection.execute(text(statement), {"lane": lane}).scalars())


def test_jobs_are_in_the_order_of_their_events(bed: TestBed) -> None:
    """Also where the database would read the events in the order in which they lie."""
    events = [_event(key) for key in "cabd"]
    with bed.database.write() as connection:
        jobs.record_events(connection, [_event(f"old {number}") for number in range(OLD)], [], NOW)
        jobs.record_events(connection, events, [], NOW)
        connection.execute(text("UPDATE event SET content = content || ' ' WHERE key = 'c'"))
    with bed.database.write() as connection:
        connection.execute(text("ANALYZE event"))
    with bed.database.write() as connection:
        jobs.record_events(connection, events, ["one", "two"], NOW)
        jobs.record_events(connection, events, ["one"], NOW)
    assert _told(bed, "events/one") == _told(bed, "events/two") == ["c", "a", "b", "d"]
