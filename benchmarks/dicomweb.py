# SPDX-License-Identifier: Apache-2.0
"""DICOMweb: what is stored and retrieved per second, Airway and Orthanc's plug-in with the same right after.

Both keep what they answer; both are asked over one connection. Airway runs doors and store only.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from benchmarks.figures import Figure, sample
from benchmarks.http_load import LoadError
from benchmarks.serving import run_airway
from benchmarks.studies import EncodedStudy, make_study
from conformance.peers.orthanc import Orthanc
from profiles.multipart import PART_END, closing, part_head

GROUP = "DICOMweb"
LONG_SERIES = 500
_BOUNDARY = "airway-benchmark"
_STORE_TARGET = 1.5
_TIMEOUT_S = 300.0
_CONFIG = {"roles": ["gateway", "task_manager"], "study": {"quiet_period_s": 86_400}}


@dataclass(frozen=True, slots=True)
class Server:
    """A DICOMweb service."""

    name: str
    base_url: str

    def ask(
        self, connection: HTTPConnection, method: str, path: str, body: bytes = b"", **headers: str
    ) -> bytes:
        """The body of a successful answer.

        Raises
        ------
        LoadError
            If the answer is no success.
        """
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"{urlsplit(self.base_url).path}{path}", body or None, fields)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 202):
            raise LoadError(f"{self.name} answered {answer.status} to {method} {path}")
        return content

    @contextmanager
    def connected(self) -> Iterator[HTTPConnection]:
        """A connection to it."""
        url = urlsplit(self.base_url)
        connection = HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT_S)
        try:
            yield connection
        finally:
            connection.close()


def measure_dicomweb(
    study: EncodedStudy, copies: Iterator[int], orthanc: Orthanc, folder: Path, *, runs: int
) -> list[Figure]:
    """Storing one image and all images a request, the metadata of a long series, and retrieval."""
    long = make_study(LONG_SERIES, 32)
    values: dict[tuple[str, str], list[float]] = {}
    with run_airway(folder / "dicomweb", _CONFIG) as airway:
        servers = [
            Server("Airway", f"http://{airway.http[0]}:{airway.http[1]}/dicom-web"),
            Server("Orthanc", orthanc.dicom_web_url.rstrip("/")),
        ]
        for run in range(runs):
            order = servers if run % 2 == 0 else servers[::-1]
            sent, series = study.copy(next(copies)), long.copy(next(copies))
            single = study.copy(next(copies))
            for server in order:  # who goes first changes from run to run
                for name, value in _measure(server, sent, single, series).items():
                    values.setdefault((name, server.name), []).append(value)
            orthanc.clear()
    shutil.rmtree(folder / "dicomweb")
    return [
        Figure(
            group=GROUP,
            name=name,
            unit=unit,
            airway=sample(values[name, "Airway"]),
            reference_name="Orthanc",
            reference=sample(values[name, "Orthanc"]),
            target=target,
        )
        for name, unit, target in _FIGURES
    ]


_ONE = "STOW-RS, one image a request"
_ALL = "STOW-RS, all images in one request"
_METADATA = f"WADO-RS, metadata of {LONG_SERIES} images"
_RETRIEVE = "WADO-RS, a series as it is stored"
_FIGURES = (
    (_ONE, "instances/s", _STORE_TARGET),
    (_ALL, "instances/s", _STORE_TARGET),
    (_METADATA, "ms", None),
    (_RETRIEVE, "instances/s", None),
)


def _measure(
    server: Server, together: EncodedStudy, single: EncodedStudy, series: EncodedStudy
) -> dict[str, float]:
    with server.connected() as connection:
        whole = _body(together.files.values())
        bodies = [_body([file]) for file in single.files.values()]
        all_s = _seconds(lambda: _store(server, connection, whole, len(together.files)))
        one_s = _seconds(lambda: _store_each(server, connection, bodies))
        files = list(series.files.values())
        for batch in _batches(files):
            _store(server, connection, _body(batch), len(batch))
        path = f"/studies/{series.study_instance_uid}/series/{series.series_instance_uid}/metadata"

        def metadata() -> None:
            found = orjson.loads(server.ask(connection, "GET", path, Accept="application/dicom+json"))
            if len(found) != len(files):
                raise LoadError(f"{server.name} told of {len(found)} of {len(files)} images")

        metadata_s = _seconds(metadata)
        retrieve_s = _seconds(lambda: _retrieve(server, connection, together))
    number = len(together.files)
    return {
        _ONE: number / one_s,
        _ALL: number / all_s,
        _METADATA: metadata_s * 1000,
        _RETRIEVE: number / retrieve_s,
    }


def _store_each(server: Server, connection: HTTPConnection, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        _store(server, connection, body, 1)


def _store(server: Server, connection: HTTPConnection, body: bytes, number: int) -> None:
    kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
    answer = orjson.loads(
        server.ask(connection, "POST", "/studies", body, Content_Type=kind, Accept="application/dicom+json")
    )
    stored = len(answer.get("00081199", {}).get("Value", []))
    if stored != number:
        raise LoadError(f"{server.name} stored {stored} of {number} instances")


def _retrieve(server: Server, connection: HTTPConnection, study: EncodedStudy) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    content = server.ask(connection, "GET", f"/studies/{study.study_instance_uid}", Accept=accept)
    if len(content) < study.size * 0.99:
        raise LoadError(f"{server.name} gave {len(content)} of {study.size} bytes")


def _body(files: Iterable[bytes]) -> bytes:
    head = part_head(_BOUNDARY, "application/dicom")
    return b"".join(head + file + PART_END for file in files) + closing(_BOUNDARY)


def _batches(files: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(files), 100):
        yield files[start : start + 100]


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
