# SPDX-License-Identifier: Apache-2.0
"""How the worklist bears many workitems and many watchers: latencies of a few compared with those of many."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from benchmarks.figures import Figure, Sample, milliseconds, sample
from benchmarks.http_load import LoadError
from benchmarks.serving import ServedAirway
from benchmarks.watching import run_watchers, watcher_name
from benchmarks.workitems import STATIONS, lock_of, make_workitem, progress, workitem_uid
from benchmarks.worklist_setup import PREFIX, SEARCH, WORKITEMS, Store, WorklistSizes, serving
from conformance.peers.process import wait_until
from profiles.dicom_json import element, merged, tag_key
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID, ProcedureStepState
from task_manager.outcome import Refused
from task_manager.store.contents import Contents
from task_manager.store.database import Database
from task_manager.store.records import Dispatch, Origin, Record
from task_manager.store.workitems import add_records
from task_manager.workitem import machine
from task_manager.workitem.commands import Create

_BATCH = 2000
_PAUSE_S = 0.2


def measure_growth(store: Store, folder: Path, *, runs: int, sizes: WorklistSizes) -> list[Figure]:
    """Searches, claims and watchers of a worklist that grows from few workitems to many."""
    group = f"worklist that grows, {store.name}, one connection"
    searches = {
        "search 50 that wait": SEARCH,
        "search 50 for one station": f"{SEARCH}&ScheduledStationNameCodeSequence.CodeValue=STATION3",
        "search for one patient": f"{WORKITEMS}?PatientID=FILLED7&limit=50",
    }
    with serving(store, folder) as airway:
        database = Database(store.url or f"sqlite:///{folder / 'airway' / 'data' / 'airway.db'}")
        try:
            filled = _fill(database, 0, 10)
            few_waiting = _samples(runs, lambda run: _claims(airway, run, sizes.claims))
            watched = _watching(airway, folder, runs=runs, sizes=sizes)
            filled = _fill(database, filled, sizes.few)
            small = {name: _latency(airway, path, runs, sizes) for name, path in searches.items()}
            filled = _fill(database, filled, max(sizes.waiting, filled))
            many_waiting = _samples(runs, lambda run: _claims(airway, runs + run, sizes.claims))
            _fill(database, filled, sizes.many)
            large = {name: _latency(airway, path, runs, sizes) for name, path in searches.items()}
        finally:
            database.close()
    claims = Figure(
        group=group,
        name=f"find and claim, {sizes.waiting:,} wait",
        unit="ms",
        airway=many_waiting,
        reference_name="the same, 10 wait",
        reference=few_waiting,
        target=1.5,
    )
    told = Figure(
        group=group,
        name=f"change sent to event received, {sizes.watchers} watchers",
        unit="ms",
        airway=watched,
    )
    return [
        *(
            Figure(
                group=group,
                name=f"{name}, of {sizes.many:,}",
                unit="ms",
                airway=large[name],
                reference_name=f"the same, of {sizes.few:,}",
                reference=small[name],
                target=2.0,
            )
            for name in searches
        ),
        claims,
        told,
    ]


def _samples(runs: int, measure: Callable[[int], float]) -> Sample:
    return sample([measure(run) for run in range(1, runs + 1)])


def _fill(database: Database, have: int, want: int) -> int:
    """Write workitems through the store until there are `want`; as the machine creates them."""
    now = datetime(2026, 3, 1, 8, tzinfo=UTC)
    made = machine.create(Create(uid=workitem_uid(999, 0), attributes=make_workitem(0)), now=now)
    if isinstance(made, Refused):
        raise TypeError(f"the workitem of the benchmark is refused: {made.faults}")
    for start in range(have, want, _BATCH):
        records = []
        for number in range(start, min(want, start + _BATCH)):
            uid, at = workitem_uid(999, number), now + timedelta(milliseconds=number)
            attributes = merged(
                [
                    made.workitem.attributes,
                    element("SOPInstanceUID", uid),
                    element("PatientID", f"FILLED{number}"),
                    element(
                        "ScheduledStationNameCodeSequence",
                        merged(
                            [
                                element("CodeValue", f"STATION{number % STATIONS}"),
                                element("CodingSchemeDesignator", "L"),
                                element("CodeMeaning", "Workstation"),
                            ]
                        ),
                    ),
                ]
            )
            workitem = replace(made.workitem, uid=uid, attributes=attributes, created_at=at, modified_at=at)
            records.append(Record(workitem=workitem, origin=Origin(), dispatch=Dispatch()))
        with database.write() as connection:
            add_records(connection, records, Contents())
    return max(have, want)


class _Client:
    """One keep-alive connection, one request after the other."""

    def __init__(self, airway: ServedAirway) -> None:
        self._connection = http.client.HTTPConnection(*airway.http, timeout=60)

    def ask(self, method: str, path: str, content: object | None = None) -> bytes:
        headers = {"Accept": "application/dicom+json", "Content-Type": "application/dicom+json"}
        body = None if content is None else orjson.dumps(content)
        self._connection.request(method, path, body=body, headers=headers)
        answer = self._connection.getresponse()
        read = answer.read()
        if answer.status >= 300:
            raise LoadError(f"{method} {path} answered {answer.status}: {read[:500]!r}")
        return read

    def close(self) -> None:
        self._connection.close()


def _latency(airway: ServedAirway, path: str, runs: int, sizes: WorklistSizes) -> Sample:
    """Milliseconds of a search, the median of each run."""
    client = _Client(airway)
    try:
        client.ask("GET", path)
        return _samples(
            runs,
            lambda _: statistics.median(
                milliseconds(lambda: client.ask("GET", path)) for _ in range(sizes.claims)
            ),
        )
    finally:
        client.close()


def _claims(airway: ServedAirway, run: int, count: int) -> float:
    """Milliseconds to find the next workitem and claim it, the median; each is put back by a new one."""
    client = _Client(airway)
    path = f"{WORKITEMS}?ProcedureStepState=SCHEDULED&limit=1"
    took: list[float] = []
    try:
        for number in range(count):
            client.ask("POST", f"{WORKITEMS}?{workitem_uid(500 + run, number)}", make_workitem(number))

            def claim() -> None:
                (found,) = json.loads(client.ask("GET", path))
                uid = str(found[tag_key("SOPInstanceUID")]["Value"][0])
                content = merged(
                    [
                        element("ProcedureStepState", ProcedureStepState.IN_PROGRESS.value),
                        element("TransactionUID", lock_of(uid)),
                    ]
                )
                client.ask("PUT", f"{WORKITEMS}/{uid}/state", content)

            took.append(milliseconds(claim))
    finally:
        client.close()
    return statistics.median(took)


# Watchers -------------------------------------------------------------------------------------------------


def _watching(airway: ServedAirway, folder: Path, *, runs: int, sizes: WorklistSizes) -> Sample:
    """Milliseconds from a change sent to an event received, the median over watchers and changes.

    Counted from the sending, which is before the commit: the time from the commit is shorter.
    """
    client = _Client(airway)
    medians = []
    try:
        for number in range(sizes.watchers):
            path = f"{WORKITEMS}/{GLOBAL_SUBSCRIPTION_UID}/subscribers/{watcher_name(number)}"
            client.ask("POST", path)
        for run in range(1, runs + 1):
            uid = workitem_uid(700 + run, 0)
            with run_watchers(sizes.watchers, airway.http, PREFIX, folder) as watchers:
                client.ask("POST", f"{WORKITEMS}?{uid}", make_workitem(0))
                sent = []
                for change in range(sizes.changes):
                    sent.append(time.monotonic())
                    client.ask("POST", f"{WORKITEMS}/{uid}", progress(change + 1))
                    wait_until(_passed(sent[-1] + _PAUSE_S), "a pause between changes")
                wanted = sizes.watchers * sizes.changes
                heard = watchers.times(wanted).get(uid, ())
            if len(heard) != wanted:
                raise LoadError(f"{len(heard)} of {wanted} events were received")
            latencies = []
            for at in heard:
                latest = max(moment for moment in sent if moment <= at)
                latencies.append((at - latest) * 1000)
            medians.append(statistics.median(latencies))
        for number in range(sizes.watchers):
            path = f"{WORKITEMS}/{GLOBAL_SUBSCRIPTION_UID}/subscribers/{watcher_name(number)}"
            client.ask("DELETE", path)
    finally:
        client.close()
    return sample(medians)


def _passed(moment: float) -> Callable[[], bool]:
    return lambda: time.monotonic() >= moment
