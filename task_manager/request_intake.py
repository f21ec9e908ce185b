# SPDX-License-Identifier: Apache-2.0
"""What asks for the analysis of a study, from whatever door: one way in, durable before it is answered.

A request that says what an order says becomes an order, so that rules, cancels and merges treat it as one.
One by somebody who places no orders stands behind those of the hospital.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime

from profiles.faults import Fault
from profiles.order import MessageKey, Order, OrderAction, OrderControl
from profiles.request import REQUEST_ORDER, Request, RequestKind
from task_manager.actor import Actor
from task_manager.doorkeeping import no_room
from task_manager.errors import ConflictError, StoreError
from task_manager.fetching.model import FetchPurpose, FetchTarget
from task_manager.fetching.requests import StudyFetches
from task_manager.order_changes import apply_order, needs_known_order
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.store import fetches, identities, orders, requests, studies
from task_manager.store.database import Connection, Database
from task_manager.store.orders import OrderStatus
from task_manager.store.requests import KeptRequest
from task_manager.transaction import WorklistTransaction
from task_manager.worklist import StoredWorklist

_LOG = logging.getLogger(__name__)
_TRIES = 5

Fetch = Callable[[Connection, Order, str], None]
"""Has a study fetched that is not here, in the transaction of who asks; the key names the request."""


def requested_fetch(archives: StudyFetches) -> Fetch:
    """Has archives asked for what a request is about; nothing where there are none."""

    def fetch(connection: Connection, asked: Order, key: str) -> None:
        uid = asked.study_instance_uid
        target = FetchTarget(
            study_instance_uid=uid,
            accession_number="" if uid else asked.accession_number,
            patient_id="" if uid else asked.patient_id,
        )
        if archives.archives and not target.faults():
            archives.plan(connection, target, purpose=FetchPurpose.REQUEST, asked_by=key)

    return fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a request is taken.

    Attributes
    ----------
    unless
        Business identifier: a request of the same kind that bears it, or was made on the same term, is taken
        for this one and stays as it is.
    version
        The version that is changed; another one by now is a refusal. None does not ask.
    known
        Whether there has to be one that is changed.
    """

    unless: str = ""
    version: int | None = None
    known: bool = False


_ANY = Terms()


class RequestIntake:
    """Receives requests into the store.

    Parameters
    ----------
    apps
        Apps that rules give work to: no other can be asked for by name.
    looks_at_triggers
        Whether any rule asks who asked: then a study is looked at again whenever somebody does.
    clock
        Gives aware UTC time.
    wake
        Called after each commit, so that the worker looks for work at once.
    fetch
        Has studies fetched that are not here; None where nothing can be.
    takes_messages
        Whether there is room for anything new.
    """

    def __init__(
        self,
        database: Database,
        worklist: StoredWorklist,
        *,
        apps: Collection[str],
        looks_at_triggers: bool,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        fetch: Fetch | None = None,
        takes_messages: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._worklist = worklist
        self._apps = frozenset(apps)
        self._looks_at_triggers = looks_at_triggers
        self._clock = clock
        self._wake = wake
        self._fetch = fetch
        self._takes_messages = takes_messages

    def receive_request(self, request: Request, *, actor: Actor, terms: Terms = _ANY) -> Accepted | Refused:
        """Commit a request with all that follows, and only then accept it; all faults are told at once.

        The same request again is accepted with DUPLICATE and changes nothing. The UID accepted is its name:
        that of an earlier one where `terms` take that for it.

        Raises
        ------
        StoreError
            If the database fails; nothing was acknowledged.
        """
        if request.asked.action is not OrderAction.CANCEL and not self._takes_messages():
            return no_room()
        for _ in range(_TRIES):
            try:
                outcome = self._receive(request, actor, terms)
            except ConflictError:  # the same request through another door, or work on the same order
                continue
            if isinstance(outcome, Accepted) and not outcome.warnings:
                self._wake()
                extra = {"action": "request.received", "kind": request.kind.value, "source": actor.name}
                _LOG.info("request committed", extra=extra)
            return outcome
        raise StoreError("a request could not be recorded: others keep changing the same")

    def cancel_request(self, kind: RequestKind, name: str, *, actor: Actor) -> Accepted | Refused:
        """Take a request back, as ORC-1 CA does an order: what waits is canceled, what runs asked to stop."""
        with self._database.read() as connection:
            kept = requests.request_by_key(connection, f"{kind.value}:{name}")
            order = orders.order_by_key(connection, kept.order_key) if kept else None
            tokens = requests.tokens_of(connection, kept.request_key) if kept else ()
        if kept is None or order is None:
            return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("", "there is no such request to cancel"),))
        if not kind.is_canceled_by_key:
            return Refused(RefusalCode.MAY_NOT_BE_UPDATED, (Fault("", "is taken back the way it came"),))
        if kept.status is OrderStatus.REVOKED:
            return Accepted(uid=name, warnings=(WarningCode.DUPLICATE,))
        asked = replace(order, control=OrderControl.CANCEL, order_status="", earlier=())
        request = Request(name=name, trigger=kept.trigger, asked=asked, document=kept.document, tokens=tokens)
        return self.receive_request(request, actor=actor)

    def record_in(self, connection: Connection, request: Request, *, actor: Actor, now: datetime) -> None:
        """Write a request in a transaction of the caller; one that cannot be joined to anything is logged.

        The caller's own record is the durable one, and nobody is there to be refused.
        """
        identities.lock_identities(connection, change=False)
        requests.lock_request(connection, request.key)
        before = requests.request_by_key(connection, request.key)
        if before is not None and before.digest == request.digest:
            return
        with self._worklist.within(connection, now) as work:
            self.record_with(work, request, before, actor=actor)

    def ask_with(self, work: WorklistTransaction, request: Request, actor: Actor) -> Recorded | Refused:
        """Write a request, new or newer, in a transaction over workitems."""
        identities.lock_identities(work.connection, change=False)
        before = requests.request_by_key(work.connection, request.key)
        return self.record_with(work, request, before, actor=actor)

    def record_with(
        self, work: WorklistTransaction, request: Request, before: KeptRequest | None, *, actor: Actor
    ) -> Recorded | Refused:
        """Write a request with all that follows, in the transaction of who received it."""
        written = record(work, request, before, actor=actor, looks_at_triggers=self._looks_at_triggers)
        if isinstance(written, Refused):
            extra = {"action": "request.refused", "kind": request.kind.value, "code": written.code.value}
            _LOG.warning("request cannot be joined", extra=extra)
        elif self._fetch is not None and request.kind.wants_now and written.is_missing:
            self._fetch(work.connection, written.asked, request.key)
        return written

    def request(self, kind: RequestKind, name: str) -> KeptRequest | None:
        """A request as it is kept; None if there is none."""
        with self._database.read() as connection:
            return requests.request_by_key(connection, f"{kind.value}:{name}")

    def order_of(self, kind: RequestKind, name: str) -> Order | None:
        """What a request says of study, patient and procedure by now; None if there is no such request."""
        with self._database.read() as connection:
            kept = requests.request_by_key(connection, f"{kind.value}:{name}")
            return orders.order_by_key(connection, kept.order_key) if kept else None

    def is_of_same_patient(self, asked: Order, ordered: Order) -> bool:
        """Whether what is asked may be about the patient of an order: it names that one, or nobody."""
        if not asked.patient_id:
            return True
        with self._database.read() as connection:
            now = identities.with_current_patient(connection, asked)
        return now.patient_id == ordered.patient_id and identities.same_issuer(
            now.issuer_of_patient_id, ordered.issuer_of_patient_id
        )

    def _receive(self, request: Request, actor: Actor, terms: Terms) -> Accepted | Refused:
        now = self._clock()
        with self._database.write() as connection:
            identities.lock_identities(connection, change=False)
            if terms.unless:
                keys = requests.keys_with_token(connection, request.kind, terms.unless)
                if len(keys) > 1:
                    return Refused(RefusalCode.PRECONDITION_FAILED, (_several(),))
                if keys:
                    name = keys[0].partition(":")[2]
                    return Accepted(uid=name, warnings=(WarningCode.DUPLICATE,))
            requests.lock_request(connection, request.key)
            before = requests.request_by_key(connection, request.key)
            if before is not None and (terms.unless or before.digest == request.digest):
                return Accepted(uid=request.name, warnings=(WarningCode.DUPLICATE,))
            refused = self._refusal(request, before, terms)
            if refused is not None:
                return refused
            with self._worklist.within(connection, now) as work:
                written = self.record_with(work, request, before, actor=actor)
        return written if isinstance(written, Refused) else Accepted(uid=request.name)

    def _refusal(self, request: Request, before: KeptRequest | None, terms: Terms) -> Refused | None:
        """Why a request cannot be taken, whatever it is about."""
        if before is None and (terms.known or terms.version is not None):
            return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("", "there is no such request"),))
        if before is not None and terms.version not in (None, before.version):
            fault = Fault("", f"is version {before.version} by now")
            return Refused(RefusalCode.PRECONDITION_FAILED, (fault,))
        ends = request.asked.action is OrderAction.CANCEL
        if before is not None and not request.kind.may_change and not ends:
            fault = Fault("key", "was used for another request; ask under a new one")
            return Refused(RefusalCode.DUPLICATE_INSTANCE, (fault,))
        app = request.trigger.app
        if app and app not in self._apps and not ends:
            known = ", ".join(sorted(self._apps)) or "none"
            fault = Fault("app", f"no rule gives work to an app of this name; rules do to: {known}")
            return Refused(RefusalCode.INVALID_ATTRIBUTES, (fault,))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What recording a request came to: what was asked in the end, and whether a study is missing for it."""

    asked: Order
    is_missing: bool


def record(
    work: WorklistTransaction,
    request: Request,
    before: KeptRequest | None,
    *,
    actor: Actor,
    looks_at_triggers: bool,
) -> Recorded | Refused:
    """Write a request and what follows from it, in the transaction of who received it."""
    connection = work.connection
    asked = _of_one_patient(connection, request)
    if isinstance(asked, Refused):
        return asked
    here = requests.lock_studies(
        connection,
        study_instance_uid=asked.study_instance_uid,
        accession_number=asked.accession_number,
        patient_id=asked.patient_id,
    )
    order_key = ""
    if request.kind.tells_order:
        key = _order_key(connection, request, asked, before)
        if isinstance(key, Refused):
            return key
        order_key = apply_order(work, asked, key, message=_message(request), actor=actor)
    if request.kind.wants_now and asked.action is OrderAction.PLACE:
        for uid in here:  # one that was fetched beside another study waits until somebody asks
            fetches.let_be_evaluated(connection, uid, work.now)
    if looks_at_triggers or asked.action is OrderAction.CANCEL:
        studies.look_again(connection, asked, work.now)
    requests.put_request(
        connection,
        request,
        order_key=order_key,
        study_instance_uid="" if order_key else asked.study_instance_uid,
        before=before,
        now=work.now,
    )
    return Recorded(asked=asked, is_missing=not here and asked.action is OrderAction.PLACE)


def _order_key(
    connection: Connection, request: Request, asked: Order, before: KeptRequest | None
) -> str | Refused | None:
    """The key of the order that stands for a request; None for one that is to be found a key."""
    if request.kind.places_order:
        known = before.order_key if before else orders.known_order_key(connection, asked)
    else:
        known = f"{REQUEST_ORDER}{request.key}"
    exists = known is not None and orders.order_times(connection, known) is not None
    if not exists and needs_known_order(asked):
        return Refused(RefusalCode.UNKNOWN_ORDER, (Fault("", "no such order here"),))
    return known


def _of_one_patient(connection: Connection, request: Request) -> Order | Refused:
    """What is asked, with the patient that its accession number tells where it names neither.

    An accession number that several patients have here tells nobody.
    """
    asked = request.asked
    if asked.study_instance_uid or asked.patient_id or not asked.accession_number:
        return asked
    found = requests.patients_of_accession(connection, asked.accession_number)
    if len(found) > 1:
        fault = Fault("accession_number", "several patients here have it; name the study")
        return Refused(RefusalCode.INVALID_ATTRIBUTES, (fault,))
    return replace(asked, patient_id=found[0]) if found else asked


def _message(request: Request) -> MessageKey:
    return MessageKey(
        sending_application=request.trigger.source or request.kind.value,
        sending_facility=request.kind.value,
        control_id=request.name,
    )


def _several() -> Fault:
    return Fault("If-None-Exist", "several bear this identifier")
