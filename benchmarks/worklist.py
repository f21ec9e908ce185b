# SPDX-License-Identifier: Apache-2.0
"""The worklist through its real HTTP door, commits durable: how many requests a second, beside the limit.

The limit is the same FastAPI on uvicorn answering a constant JSON of the same size; both are asked by the
same load generator in the same run. Airway runs doors and task manager only.
"""

from __future__ import annotations

import http.client
import itertools
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.constant_server import run_constant_server
from benchmarks.figures import Figure, sample
from benchmarks.http_load import LoadGenerator, http_request, load_generator
from benchmarks.serving import ServedAirway
from benchmarks.workitems import lock_of, make_workitem, performed, progress, size_of, workitem_uid
from benchmarks.worklist_growth import measure_growth
from benchmarks.worklist_setup import SEARCH, WORKITEMS, Store, WorklistSizes, serving
from conformance.peers.postgresql import run_postgresql
from profiles.dicom_json import DicomJson, element, merged

CONSTANT = "FastAPI, a constant of that size"
CONNECTIONS = 16
_FOUND = 50
_HTTP_OK, _CREATED = 200, 201
_TARGETS = {
    "create": 0.12,
    "retrieve": 0.50,
    "search 50": 0.20,
    "claim": 0.30,
    "update": 0.30,
    "update with results": None,
    "complete": None,
}


def measure_worklist(
    folder: Path, *, runs: int, sizes: WorklistSizes, stage: Callable[[str], None]
) -> list[Figure]:
    """All figures of the worklist, on SQLite and on PostgreSQL.

    Raises
    ------
    LoadError
        If a request was answered otherwise than it should.
    PeerFailedError
        If a server does not come up.
    """
    home = folder / "worklist"
    home.mkdir()
    figures: list[Figure] = []
    with (
        run_postgresql(durable=True, folder=_open_to_all(folder)) as postgresql,
        run_constant_server(home / "constant") as constant,
        load_generator(home) as load,
    ):

        def stores() -> Iterator[Store]:
            yield Store(name="SQLite", url="")
            yield Store(name="PostgreSQL", url=postgresql.sqlalchemy_url(postgresql.create_database()))

        for store in stores():
            stage(f"measuring rates of the worklist on {store.name}")
            figures += _rates(load, store, constant, _fresh(home), runs=runs, sizes=sizes)
        for store in stores():
            stage(f"measuring how the worklist grows on {store.name}")
            figures += measure_growth(store, _fresh(home), runs=runs, sizes=sizes)
        stage("measuring two replicas")
        shared = Store(name="PostgreSQL", url=postgresql.sqlalchemy_url(postgresql.create_database()))
        figures += _replicas(load, shared, _fresh(home), runs=runs, sizes=sizes)
    shutil.rmtree(home)
    return figures


_folders = itertools.count(1)


def _fresh(home: Path) -> Path:
    folder = home / f"run{next(_folders)}"
    folder.mkdir()
    return folder


def _rates(
    load: LoadGenerator,
    store: Store,
    constant: tuple[str, int],
    folder: Path,
    *,
    runs: int,
    sizes: WorklistSizes,
) -> list[Figure]:
    """Each operation on `sizes.workitems` new workitems per run, beside the constant of the same size."""
    rates: dict[str, list[float]] = {name: [] for name in _TARGETS}
    constants: dict[str, list[float]] = {"one": [], "search": []}
    workitem_size = size_of(make_workitem(1))
    with serving(store, folder) as airway:
        address = [airway.http]
        always = [workitem_uid(998, number) for number in range(_FOUND)]
        creates = _creates(always, [make_workitem(number) for number in range(_FOUND)])
        load.run(creates, address, connections=CONNECTIONS, expected=_CREATED)
        _phases(load, address, run=0, count=min(100, sizes.workitems), searches=20)  # warm-up
        search_size = len(_get(airway, SEARCH))
        for run in range(1, runs + 1):
            for name, size, times in (
                ("one", workitem_size, sizes.constants),
                ("search", search_size, sizes.searches),
            ):
                asked = [http_request("GET", f"/constant/{size}")] * times
                rate = load.run(asked, [constant], connections=CONNECTIONS, expected=_HTTP_OK)
                constants[name].append(rate)
            found = _phases(load, address, run=run, count=sizes.workitems, searches=sizes.searches)
            for operation, measured in found.items():
                rates[operation].append(measured)
    return [
        Figure(
            group=f"worklist over HTTP, {store.name}, {CONNECTIONS} connections",
            name=name,
            unit="requests/s",
            airway=sample(values),
            reference_name=CONSTANT,
            reference=sample(constants["search" if name.startswith("search") else "one"]),
            target=_TARGETS[name],
        )
        for name, values in rates.items()
    ]


def _phases(
    load: LoadGenerator, addresses: Sequence[tuple[str, int]], *, run: int, count: int, searches: int
) -> dict[str, float]:
    """Requests a second of each operation, over workitems made for this run."""
    uids = [workitem_uid(run, number) for number in range(count)]
    contents = [make_workitem(number) for number in range(count)]

    def rate(requests: Sequence[bytes], expected: int) -> float:
        return load.run(requests, addresses, connections=CONNECTIONS, expected=expected)

    return {
        "create": rate(_creates(uids, contents), _CREATED),
        "retrieve": rate([http_request("GET", f"{WORKITEMS}/{uid}") for uid in uids], _HTTP_OK),
        "search 50": rate([http_request("GET", SEARCH)] * searches, _HTTP_OK),
        "claim": rate([_state(uid, "IN PROGRESS") for uid in uids], _HTTP_OK),
        "update": rate([_update(uid, progress(40)) for uid in uids], _HTTP_OK),
        "update with results": rate(
            [_update(uid, performed(each)) for uid, each in zip(uids, contents, strict=True)], _HTTP_OK
        ),
        "complete": rate([_state(uid, "COMPLETED") for uid in uids], _HTTP_OK),
    }


def _open_to_all(folder: Path) -> Path:
    """The nearest folder around that any account may go to, on the same disk: the server has its own."""
    traversable = (
        place
        for place in folder.resolve().parents
        if all(each.stat().st_mode & stat.S_IXOTH for each in (place, *place.parents))
    )
    return next(traversable)


def _creates(uids: Sequence[str], contents: Sequence[DicomJson]) -> list[bytes]:
    return [
        http_request("POST", f"{WORKITEMS}?{uid}", content)
        for uid, content in zip(uids, contents, strict=True)
    ]


def _state(uid: str, state: str) -> bytes:
    content = merged([element("ProcedureStepState", state), element("TransactionUID", lock_of(uid))])
    return http_request("PUT", f"{WORKITEMS}/{uid}/state", content)


def _update(uid: str, changes: DicomJson) -> bytes:
    return http_request("POST", f"{WORKITEMS}/{uid}?transaction-uid={lock_of(uid)}", changes)


def _get(airway: ServedAirway, path: str) -> bytes:
    host, port = airway.http
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path, headers={"Accept": "application/dicom+json"})
        return connection.getresponse().read()
    finally:
        connection.close()


def _replicas(
    load: LoadGenerator, store: Store, folder: Path, *, runs: int, sizes: WorklistSizes
) -> list[Figure]:
    """Two processes on one PostgreSQL beside one of them alone, on the same machine."""
    one: dict[str, list[float]] = {"create": [], "retrieve": [], "claim": []}
    two: dict[str, list[float]] = {name: [] for name in one}
    with ExitStack() as stack:
        served = []
        for name in ("first", "second"):
            home = folder / name
            home.mkdir()
            served.append(stack.enter_context(serving(store, home)).http)
        for run in range(1, runs + 1):
            for offset, addresses, told in ((200, served[:1], one), (300, served, two)):
                uids = [workitem_uid(offset + run, number) for number in range(sizes.workitems)]
                contents = [make_workitem(number) for number in range(sizes.workitems)]
                phases = {
                    "create": (_creates(uids, contents), _CREATED),
                    "retrieve": ([http_request("GET", f"{WORKITEMS}/{uid}") for uid in uids], _HTTP_OK),
                    "claim": ([_state(uid, "IN PROGRESS") for uid in uids], _HTTP_OK),
                }
                for name, (requests, expected) in phases.items():
                    rate = load.run(requests, addresses, connections=CONNECTIONS, expected=expected)
                    told[name].append(rate)
    return [
        Figure(
            group="two replicas on one PostgreSQL",
            name=name,
            unit="requests/s",
            airway=sample(two[name]),
            reference_name="one process",
            reference=sample(one[name]),
            target=1.5,
        )
        for name in one
    ]
