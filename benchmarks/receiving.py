# SPDX-License-Identifier: Apache-2.0
"""Instances received over C-STORE: Airway, Orthanc and DCMTK with the same files right after each other.

Airway runs doors and store only, with a quiet period that does not end, so that nothing else is going on.
Told are instances per second, the receiver's processor time for each, and memory over many associations.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fast_sender import SendingError, seconds_to_send
from benchmarks.figures import Figure, sample
from benchmarks.serving import ServedAirway, run_airway
from benchmarks.studies import EncodedStudy, make_study
from conformance.peers.dcmtk import run_storescp, storescu
from conformance.peers.orthanc import Orthanc

GROUP = "received by C-STORE"
_WARM_UP_IMAGES = 4
_SENDING_S = 600.0
_CONFIG = {
    "roles": ["gateway", "task_manager"],
    "study": {"quiet_period_s": 86_400},
    "gateway": {"dicom": {"most_associations": 100}},
}
_ORTHANC, _DCMTK = "Orthanc", "DCMTK storescp --fork"
_PLAIN = "plain storescu, 1 association"
_FAST = ("fast sender, 1 association", "fast sender, 4 associations")
_RATE_TARGETS = {
    _ORTHANC: {_PLAIN: 20.0, _FAST[0]: 4.0, _FAST[1]: 4.0},
    _DCMTK: {_FAST[0]: 1.0, _FAST[1]: 1.0},
}
_CPU_TARGET = 1 / 3
_MEMORY_ASSOCIATIONS = 64
_MEMORY_TARGET = 1.2
_SMALL_SIZE = 64
_HEADER_BYTES = 8192
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A DICOM port, the process behind it, and how many instances of a study that holds."""

    name: str
    host: str
    port: int
    ae_title: str
    pid: int
    instances: Callable[[str], int]

    def cpu_seconds(self) -> float:
        """Processor time of the process and of its children, also of those that ended."""
        ticks = 0
        for pid in _with_children(self.pid):
            with suppress(OSError):  # it ended just now, and its parent counts it
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(part) for part in fields[11:15])
        return ticks / _TICKS

    def resident_megabytes(self) -> float:
        """Memory that the process and its children hold."""
        kilobytes = 0
        for pid in _with_children(self.pid):
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    kilobytes += int(line.split()[1]) if line.startswith("VmRSS:") else 0
        return kilobytes / 1024


def _with_children(pid: int) -> list[int]:
    """A process and those that it or one of these started and that still run."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _with_children(int(child))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A way to send a study: seconds it took."""

    name: str
    send: Callable[[EncodedStudy, Path, Receiver], float]


def by_storescu(study: EncodedStudy, folder: Path, receiver: Receiver) -> float:
    """Seconds of one whole run of DCMTK's ``storescu`` with its defaults, start and association included.

    Raises
    ------
    SendingError
        If it does not end well.
    """
    paths = study.write(folder)
    try:
        start = time.perf_counter()
        result = storescu(
            receiver.host, receiver.port, paths, called_ae_title=receiver.ae_title, timeout_s=_SENDING_S
        )
        elapsed = time.perf_counter() - start
    finally:
        shutil.rmtree(folder)
    if not result.succeeded:
        raise SendingError(f"storescu to {receiver.name}: {result.output[-2000:]}")
    return elapsed


def by_fast_sender(associations: int) -> Callable[[EncodedStudy, Path, Receiver], float]:
    """The fast sender over so many associations at a time."""

    def send(study: EncodedStudy, folder: Path, receiver: Receiver) -> float:
        del folder  # it sends from memory
        return seconds_to_send(
            study,
            receiver.host,
            receiver.port,
            called_ae_title=receiver.ae_title,
            associations=associations,
        )

    return send


SENDERS = (
    Sender(name=_PLAIN, send=by_storescu),
    Sender(name=_FAST[0], send=by_fast_sender(1)),
    Sender(name=_FAST[1], send=by_fast_sender(4)),
)


def measure_receiving(
    study: EncodedStudy, copies: Iterator[int], orthanc: Orthanc, folder: Path, *, runs: int, small: int
) -> list[Figure]:
    """Instances per second and processor time by sender, beside Orthanc and DCMTK; memory over many.

    Parameters
    ----------
    small
        How many small instances are sent over many associations to see memory.

    Raises
    ------
    SendingError
        If an instance was not taken.
    """
    rates: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    with _receivers(orthanc, folder) as receivers:
        for sender in SENDERS:
            for receiver in receivers:
                warm_up = study.first(_WARM_UP_IMAGES).copy(next(copies))
                sender.send(warm_up, folder / "sent", receiver)
        for run in range(runs):
            for sender in SENDERS:
                sent = study.copy(next(copies))
                # who goes first changes from run to run
                for receiver in receivers if run % 2 == 0 else receivers[::-1]:
                    used = receiver.cpu_seconds()
                    seconds = sender.send(sent, folder / "sent", receiver)
                    cost = receiver.cpu_seconds() - used
                    found = receiver.instances(sent.study_instance_uid)
                    if found != len(sent.files):
                        raise SendingError(f"{receiver.name} holds {found} of {len(sent.files)} instances")
                    key = (sender.name, receiver.name)
                    rates.setdefault(key, []).append(len(sent.files) / seconds)
                    costs.setdefault(key, []).append(max(cost, 1 / _TICKS) / len(sent.files) * 1000)
            orthanc.clear()
        memory = _memory(next(one for one in receivers if one.name == "Airway"), copies, small)
    return [*_rates(rates), *_costs(costs), memory]


def _rates(rates: dict[tuple[str, str], list[float]]) -> list[Figure]:
    return [
        Figure(
            group=GROUP,
            name=sender.name,
            unit="instances/s",
            airway=sample(rates[sender.name, "Airway"]),
            reference_name=reference,
            reference=sample(rates[sender.name, reference]),
            target=_RATE_TARGETS[reference].get(sender.name),
        )
        for reference in (_ORTHANC, _DCMTK)
        for sender in SENDERS
    ]


def _costs(costs: dict[tuple[str, str], list[float]]) -> list[Figure]:
    return [
        Figure(
            group=GROUP,
            name=f"processor time, {name}",
            unit="ms/instance",
            airway=sample(costs[name, "Airway"]),
            reference_name=_ORTHANC,
            reference=sample(costs[name, _ORTHANC]),
            target=_CPU_TARGET,
        )
        for name in _FAST
    ]


def _memory(airway: Receiver, copies: Iterator[int], instances: int) -> Figure:
    """Resident memory after many small instances over many associations, and after a tenth of them."""
    parts = 10
    series = make_study(max(1, instances // parts), _SMALL_SIZE)
    send = by_fast_sender(_MEMORY_ASSOCIATIONS)
    held = []
    for _ in range(parts):
        send(series.copy(next(copies)), Path(), airway)
        held.append(airway.resident_megabytes())
    return Figure(
        group=GROUP,
        name=f"memory, {instances} instances, {_MEMORY_ASSOCIATIONS} associations",
        unit="MB",
        airway=sample(held[-1:]),
        reference_name="after a tenth of them",
        reference=sample(held[:1]),
        target=_MEMORY_TARGET,
    )


@contextmanager
def _receivers(orthanc: Orthanc, folder: Path) -> Iterator[list[Receiver]]:
    def held_by_orthanc(study_instance_uid: str) -> int:
        return len(orthanc.find("Instance", StudyInstanceUID=study_instance_uid))

    with run_airway(folder / "receiving", _CONFIG) as airway, _dcmtk() as dcmtk:
        yield [_of(airway), _orthanc(orthanc, held_by_orthanc), dcmtk]
    shutil.rmtree(folder / "receiving")


def _of(airway: ServedAirway) -> Receiver:
    door = airway.dicom
    return Receiver(
        name="Airway",
        host=door.host,
        port=door.port,
        ae_title=door.ae_title,
        pid=airway.pid,
        instances=airway.instances,
    )


def _orthanc(orthanc: Orthanc, instances: Callable[[str], int]) -> Receiver:
    return Receiver(
        name=_ORTHANC,
        host=orthanc.host,
        port=orthanc.dicom_port,
        ae_title=orthanc.ae_title,
        pid=orthanc.process.pid,
        instances=instances,
    )


@contextmanager
def _dcmtk() -> Iterator[Receiver]:
    """DCMTK's receiver as fast as it goes: a process for each association, files as they come, no index."""
    with run_storescp(options=["--fork"]) as receiver:

        def held(study_instance_uid: str) -> int:
            """How many files are of the study; all are removed."""
            count = 0
            for path in receiver.files():
                with path.open("rb") as file:
                    count += study_instance_uid.encode() in file.read(_HEADER_BYTES)
                path.unlink()
            return count

        yield Receiver(
            name=_DCMTK,
            host=receiver.host,
            port=receiver.port,
            ae_title=receiver.ae_title,
            pid=receiver.process.pid,
            instances=held,
        )
