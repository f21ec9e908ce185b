# SPDX-License-Identifier: Apache-2.0
"""A UPS client on pynetdicom, and a DICOM port over a worklist in memory, for tests over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from informatics_gateway.dimse.requestor import keep_answers
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.ups_messages import EVENT, PULL, PUSH, QUERY, WATCH
from profiles.dicom_json import DicomJson
from task_manager.actor import Actor
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused
from tests.instances import FolderIntake

HOST = "127.0.0.1"
ALL_CLASSES = (PUSH, PULL, WATCH, EVENT, QUERY)
NAMES = {PUSH: "Push", PULL: "Pull", WATCH: "Watch", EVENT: "Event", QUERY: "Query"}


def data_set(attributes: DicomJson | None) -> Dataset | None:
    """DICOM JSON as pydicom itself reads it: another hand than the code under test; None if it is empty."""
    if not attributes:
        return None
    found: Dataset = Dataset.from_json(attributes)
    if "ISO_IR 192" not in str(found.get("SpecificCharacterSet", "")):
        found.SpecificCharacterSet = "ISO_IR 192"
    return found


def keys(**given: Any) -> Dataset:
    """A data set of attributes by keyword."""
    identifier = Dataset()
    for keyword, value in given.items():
        setattr(identifier, keyword, value)
    return identifier


@dataclass
class Told:
    """The command set and the data set of a response."""

    status: int
    command: Dataset
    data_set: Dataset | None


class UpsScu:
    """One association; each message names the class and presentation context it goes by."""

    def __init__(self, association: Any) -> None:
        self.association = association
        self.responses: list[Dataset] = []

    def _answer(self, answer: tuple[Dataset, Dataset | None]) -> Told:
        command, found = answer
        return Told(int(command.Status) if "Status" in command else -1, self.responses[-1], found)

    def create(
        self,
        attributes: DicomJson | Dataset | None,
        uid: str | None = None,
        *,
        named: str = PUSH,
        context: str = PUSH,
    ) -> Told:
        found = attributes if isinstance(attributes, Dataset) else data_set(attributes)
        return self._answer(
            self.association.send_n_create(found, named, uid, meta_uid=context if context != named else None)
        )

    def set(self, uid: str, changes: DicomJson | Dataset, *, named: str = PUSH, context: str = PULL) -> Told:
        found = changes if isinstance(changes, Dataset) else data_set(changes)
        return self._answer(self.association.send_n_set(found, named, uid, meta_uid=context))

    def get(self, uid: str, tags: Sequence[int] = (), *, named: str = PUSH, context: str = PULL) -> Told:
        return self._answer(self.association.send_n_get(list(tags) or None, named, uid, meta_uid=context))

    def action(
        self,
        uid: str,
        number: int,
        details: DicomJson | Dataset | None,
        *,
        named: str = PUSH,
        context: str = PULL,
    ) -> Told:
        found = details if isinstance(details, Dataset) else data_set(details)
        found = found or None  # the library would announce an empty data set and send none
        return self._answer(self.association.send_n_action(found, number, named, uid, meta_uid=context))

    def state(self, uid: str, state: str, transaction_uid: str) -> Told:
        details = Dataset()
        details.ProcedureStepState = state
        details.TransactionUID = transaction_uid
        return self.action(uid, 1, details)

    def find(
        self, identifier: DicomJson | Dataset | None, *, model: str = PULL
    ) -> list[tuple[int, Dataset | None]]:
        found = identifier if isinstance(identifier, Dataset) else data_set(identifier)
        answers = []
        for command, one in self.association.send_c_find(found, model):
            answers.append((int(command.Status), one))
        return answers


@contextmanager
def connected(
    port: int,
    *,
    ae_title: str = "WATCHER",
    classes: Sequence[str] = ALL_CLASSES,
    syntaxes: Sequence[str] = (ExplicitVRLittleEndian,),
) -> Iterator[UpsScu]:
    entity = AE(ae_title=ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    for sop_class in classes:
        entity.add_requested_context(sop_class, list(syntaxes))
    sockets: list[socket.socket] = []
    scu: list[UpsScu] = []

    def received(event: Any) -> None:
        if scu:
            scu[0].responses.append(event.message.command_set)

    association = entity.associate(
        HOST,
        port,
        ae_title="AIRWAY",
        evt_handlers=[
            (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket)),
            (evt.EVT_DIMSE_RECV, received),
        ],
    )
    assert association.is_established
    keep_answers(association)
    scu.append(UpsScu(association))
    try:
        yield scu[0]
    finally:
        if association.is_established:
            association.release()
        for connection in sockets:
            connection.close()  # the library leaves it open when the other side hung up first


@contextmanager
def ups_port(folder: Path, worklist: Any, **given: Any) -> Iterator[DimseServer]:
    """A DICOM port over `worklist`."""
    server = DimseServer(FolderIntake(folder), worklist=worklist, **given)
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=1.0)


class Stage:
    """Stands before the actor of the hour, so that one port serves the tests of a module, each its own."""

    def __init__(self) -> None:
        self.actor: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.actor, name)


WORKLIST, SUBSCRIPTIONS = Stage(), Stage()
"""Behind the port of a module."""


@dataclass
class RememberedSubscriptions:
    """Who is subscribed to what, and nothing else: the port of the doors, for tests of the doors."""

    asked: list[tuple[str, str, bool, DicomJson, Channel, Actor]] = field(default_factory=list)
    current: set[tuple[str, str]] = field(default_factory=set)
    refusal: Refused | None = None
    accepted: Accepted = field(default_factory=Accepted)

    def subscribe(
        self,
        target: str,
        receiving_ae: str,
        *,
        deletion_lock: bool,
        matching: DicomJson,
        channel: Channel,
        actor: Actor,
    ) -> Accepted | Refused:
        if self.refusal is not None:
            return self.refusal
        self.asked.append((target, receiving_ae, deletion_lock, matching, channel, actor))
        self.current.add((target, receiving_ae))
        return self.accepted

    def unsubscribe(self, target: str, receiving_ae: str, *, actor: Actor) -> Accepted | Refused:
        if (target, receiving_ae) not in self.current:
            return Refused(RefusalCode.NOT_SUBSCRIBED)
        self.current.remove((target, receiving_ae))
        return Accepted(uid=target)

    def suspend(self, target: str, receiving_ae: str, *, actor: Actor) -> Accepted | Refused:
        if self.refusal is not None:
            return self.refusal
        return self.unsubscribe(target, receiving_ae, actor=actor)
