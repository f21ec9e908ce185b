# SPDX-License-Identifier: Apache-2.0
"""The Protocols where the task manager meets the doors, the disk and the destinations.

Doors call the intake Protocols, which :class:`task_manager.service.Service` implements; the service calls the
object store; the worker calls deliverers. All are synchronous: HTTP handlers call them in a thread pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from profiles.dicom_json import DicomJson
from profiles.order import MessageKey, Order
from profiles.patient import IdentityChange, PatientIdentity, PriorReport
from profiles.sole.events import OperationalEvent
from task_manager.actor import Actor
from task_manager.notices import Channel
from task_manager.outcome import Accepted, Refused
from task_manager.study.model import Instance
from task_manager.workitem.commands import Command, Create


class StagedObject(Protocol):
    """Bytes on their way in: a file under ``incoming/`` that nobody else sees yet."""

    @property
    def path(self) -> Path:
        """Where the staged bytes are."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    @property
    def start(self) -> bytes:
        """The first bytes, as far as they are kept at hand."""

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises
        ------
        StoreError
            If the disk is full or fails.
        """

    def write_pieces(self, pieces: Sequence[memoryview]) -> None:
        """Append several pieces; raises as `write`."""

    def discard(self) -> None:
        """Remove the staged bytes; does nothing when committed or discarded before."""

    def settle(self) -> None:
        """Forget the staged bytes of a committed object: its record is durable, or it has none to have."""

    @property
    def on_reserve(self) -> bool:
        """Whether it was staged where only what finishes work is taken."""


class ObjectStore(Protocol):
    """Instances on disk, bytes untouched (a DICOM Part 10 file each)."""

    def stage(self) -> StagedObject:
        """A new, empty staged object."""

    def commit(self, staged: StagedObject, *, study_instance_uid: str, sop_instance_uid: str) -> str:
        """Make `staged` durable (fsync, link) and return its path relative to the store.

        Committing under a name that exists keeps both: the name gets a suffix. Until `staged` is settled, a
        restart looks whether the object has a record and removes it if not.
        """

    def remove(self, relative: str) -> bool:
        """Remove a committed object; whether it was there."""

    def absolute(self, relative: str) -> Path:
        """The file of a committed path; never outside the store.

        Raises
        ------
        StoreError
            If `relative` would leave the store.
        """


class InstanceIntake(Protocol):
    """What the storage doors need: C-STORE and STOW-RS."""

    def stage(self) -> StagedObject:
        """Where to stream the bytes of a Part 10 file (preamble, meta and data set as received)."""

    def receive_instance(
        self,
        staged: StagedObject,
        *,
        actor: Actor,
        announced_sop_class_uid: str = "",
        announced_sop_instance_uid: str = "",
        study_instance_uid: str = "",
    ) -> Accepted | Refused:
        """Read the header, commit bytes and record, and only then return Accepted (uid = SOP Instance UID).

        The announced UIDs are those of the command set (C-STORE) and are compared with the data set;
        `study_instance_uid` is the one of a STOW-RS URL. A refused object is discarded by this call.
        """


class OrderIntake(Protocol):
    """What the HL7 door needs."""

    def receive_order(
        self,
        received: Sequence[Order],
        *,
        key: MessageKey,
        raw: bytes,
        actor: Actor,
        accept_unknown: bool = False,
    ) -> Accepted | Refused:
        """Commit all orders of one message, or none. The same `key` again is Accepted with DUPLICATE.

        `accept_unknown` lets a change of an unknown order make it, and a cancel of one be no fault.
        """


class ContextIntake(Protocol):
    """What the HL7 door needs beside orders: who patients are, and reports of other examinations."""

    def receive_identities(
        self, changes: Sequence[IdentityChange], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit all changes of one message, with what follows; repeated as orders are."""

    def receive_reports(
        self, reports: Sequence[PriorReport], *, key: MessageKey, raw: bytes, actor: Actor
    ) -> Accepted | Refused:
        """Commit all reports of one message; repeated as orders are."""


class MessageIntake(OrderIntake, ContextIntake, Protocol):
    """All that the HL7 door needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemQuery:
    """A search over workitems (PS3.18 11.9, PS3.4 CC.2.8).

    `matching` holds DICOM JSON of the keys: single values, wildcards (``*``, ``?``), ranges for dates and
    times, lists of UIDs, and sequences with one item of keys.
    """

    matching: DicomJson
    offset: int = 0
    limit: int = 100
    returned: frozenset[str] | None = frozenset()
    """Top-level tags wanted besides those always returned; None wants every attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """One page of a search.

    Attributes
    ----------
    results
        DICOM JSON objects as UTF-8 text, in worklist order, each with the attributes wanted.
    remaining
        How many more match after this page; counted no further than :data:`MOST_COUNTED`.
    """

    results: tuple[bytes, ...]
    remaining: int


MOST_COUNTED = 200
"""Further matches are counted to here: counting on would cost more than the search."""


class Worklist(Protocol):
    """What the UPS doors need, besides :class:`Subscriptions`: the eleven transactions come to these.

    The methods that return a Future answer when the change is durable; those without one wait for it.
    """

    def submit(self, uid: str, command: Create | Command, *, actor: Actor) -> Future[Accepted | Refused]:
        """Create, Set, Change State or Request Cancel, by command (CC.2.5, 2.6, 2.1, 2.2)."""

    def fetch(self, uid: str) -> Future[bytes | Refused]:
        """UPS Get (CC.2.7) as DICOM JSON text: all attributes but the Transaction UID."""

    def search(self, query: WorkitemQuery) -> Future[SearchPage]:
        """UPS Find (CC.2.8), HIGH priority first, then by scheduled start and arrival."""

    def create_workitem(self, uid: str, attributes: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """UPS Create (PS3.4 CC.2.5)."""

    def retrieve_workitem(self, uid: str) -> DicomJson | Refused:
        """UPS Get (CC.2.7): all attributes but the Transaction UID."""

    def search_workitems(self, query: WorkitemQuery) -> Sequence[DicomJson]:
        """The results of `search` as data sets."""

    def update_workitem(
        self, uid: str, changes: DicomJson, *, transaction_uid: str, actor: Actor
    ) -> Accepted | Refused:
        """UPS Set (CC.2.6)."""

    def change_state(self, uid: str, state: str, *, transaction_uid: str, actor: Actor) -> Accepted | Refused:
        """Change UPS State (CC.2.1)."""

    def request_cancel(self, uid: str, details: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Request UPS Cancel (CC.2.2)."""


class Subscriptions(Protocol):
    """What the UPS doors need of subscriptions (PS3.4 CC.2.3, table CC.2.3-2).

    `target` is a workitem UID or one of the two well-known ones. `channel` is how the receiving AE listens
    from now on: that of the door which was asked.
    """

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
        """Subscribe to Receive UPS Event Reports (action 3); `matching` only for the filtered target."""

    def unsubscribe(self, target: str, receiving_ae: str, *, actor: Actor) -> Accepted | Refused:
        """Unsubscribe from Receiving UPS Event Reports (action 4); globally, from everything."""

    def suspend(self, target: str, receiving_ae: str, *, actor: Actor) -> Accepted | Refused:
        """Suspend Global Subscription (action 5): workitems subscribed to stay so, new ones are not."""


class AvailabilityIntake(Protocol):
    """What the door of Instance Availability Notifications needs (PS3.4 R.3, IHE RAD-49)."""

    def receive_availability(self, notification: DicomJson, *, actor: Actor) -> Accepted | Refused:
        """Commit where instances are available, and only then accept; all faults are told at once."""


class InstanceArchive(Protocol):
    """What WADO-RS needs; QIDO-RS has :class:`task_manager.study.query.Holdings`."""

    def find_instances(
        self, *, study_instance_uid: str = "", series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> Sequence[Instance]:
        """Stored instances, by series and instance number; all levels may be left open."""

    def open_path(self, instance: Instance) -> Path:
        """The file of `instance`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """Result objects for one destination, in the order to be sent (root SR last).

    `patient` is who they are of by now, where that was told after the images were made; None leaves it to the
    objects, whose bytes never change. `supersedes` are the workitems whose results these take the place of,
    since late images came; `is_superseded` tells that others take the place of these.
    """

    destination: str
    workitem_uid: str
    workitem: DicomJson
    instances: tuple[Instance, ...]
    paths: tuple[Path, ...]
    order: Order | None
    patient: PatientIdentity | None = None
    supersedes: tuple[str, ...] = ()
    is_superseded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a destination answered, for people: never patient data.

    Attributes
    ----------
    sent
        False if the destination wants nothing of this, and nothing was sent.
    """

    summary: str
    sent_at: datetime
    sent: bool = True


Turn = Callable[[], None]
"""Waits until the destination may be sent the next instance or message; raises if it is to stop instead."""


def at_once() -> None:
    """The turn of a destination without a rate limit."""


class Deliverer(Protocol):
    """One destination of one kind: C-STORE, STOW-RS, FHIR, HL7, a folder, a webhook.

    It sends and sorts the answer; filter, order, rate, tries, circuit breaker and dead letters are the
    business of who calls it (``task_manager/delivery``). Called by several threads at once where the
    destination is configured with `parallel` above one.
    """

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Send everything in the order of the shipment; sending twice is harmless.

        Parameters
        ----------
        turn
            To be called before each instance or message. What it raises is passed on untouched.

        Raises
        ------
        RetryableDeliveryError
            If later may work. `retry_after` is what the destination asked for; `unreachable` tells that
            nobody answered, which opens the circuit breaker in time.
        FinalDeliveryError
            If it will not work unchanged: the job becomes a dead letter for a person.
        """


@runtime_checkable
class FailureDeliverer(Protocol):
    """A destination that can be told that a run brought no result; many cannot."""

    def deliver_failure(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Tell that the workitem was canceled; the shipment has no instances. Raises as ``deliver``."""


class EventSink(Protocol):
    """One event repository: syslog over TLS or UDP, or a file."""

    def send_all(self, events: Sequence[OperationalEvent]) -> int:
        """Send events in order; how many were sent before one could not be.

        Raises
        ------
        RetryableDeliveryError
            If the repository cannot be reached for the very first.
        FinalDeliveryError
            If the very first will never be taken.
        """
