# SPDX-License-Identifier: Apache-2.0
"""Instances received per second over C-STORE: Airway, and Orthanc with the same files right before or after.

Airway runs doors and store only, with a quiet period that does not end, so that nothing else is going on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fast_sender import SendingError, seconds_to_send
from benchmarks.figures import Figure, sample
from benchmarks.serving import ServedAirway, run_airway
from benchmarks.studies import EncodedStudy
from conformance.peers.dcmtk import storescu
from conformance.peers.orthanc import Orthanc

GROUP = "received by C-STORE"
_WARM_UP_IMAGES = 4
_SENDING_S = 600.0
_CONFIG = {"roles": ["gateway", "task_manager"], "study": {"quiet_period_s": 86_400}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A DICOM port, and how many instances of a study are behind it."""

    name: str
    host: str
    port: int
    ae_title: str
    instances: Callable[[str], int]


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
    Sender(name="plain storescu, 1 association", send=by_storescu),
    Sender(name="fast sender, 1 association", send=by_fast_sender(1)),
    Sender(name="fast sender, 4 associations", send=by_fast_sender(4)),
)


def measure_receiving(
    study: EncodedStudy, copies: Iterator[int], orthanc: Orthanc, folder: Path, *, runs: int
) -> list[Figure]:
    """Instances per second by sender, Airway beside Orthanc.

    Raises
    ------
    SendingError
        If an instance was not taken.
    """
    rates: dict[tuple[str, str], list[float]] = {}
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
                    seconds = sender.send(sent, folder / "sent", receiver)
                    found = receiver.instances(sent.study_instance_uid)
                    if found != len(sent.files):
                        raise SendingError(f"{receiver.name} holds {found} of {len(sent.files)} instances")
                    rates.setdefault((sender.name, receiver.name), []).append(len(sent.files) / seconds)
            orthanc.clear()
    return [
        Figure(
            group=GROUP,
            name=sender.name,
            unit="instances/s",
            airway=sample(rates[sender.name, "Airway"]),
            reference_name="Orthanc",
            reference=sample(rates[sender.name, "Orthanc"]),
        )
        for sender in SENDERS
    ]


@contextmanager
def _receivers(orthanc: Orthanc, folder: Path) -> Iterator[list[Receiver]]:
    def held_by_orthanc(study_instance_uid: str) -> int:
        return len(orthanc.find("Instance", StudyInstanceUID=study_instance_uid))

    with run_airway(folder / "receiving", _CONFIG) as airway:
        yield [_of(airway), _orthanc(orthanc, held_by_orthanc)]
    shutil.rmtree(folder / "receiving")


def _of(airway: ServedAirway) -> Receiver:
    door = airway.dicom
    return Receiver(
        name="Airway", host=door.host, port=door.port, ae_title=door.ae_title, instances=airway.instances
    )


def _orthanc(orthanc: Orthanc, instances: Callable[[str], int]) -> Receiver:
    return Receiver(
        name="Orthanc",
        host=orthanc.host,
        port=orthanc.dicom_port,
        ae_title=orthanc.ae_title,
        instances=instances,
    )
