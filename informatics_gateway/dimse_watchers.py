# SPDX-License-Identifier: Apache-2.0
"""Watchers that are called: what each listener of DIMSE is owed is sent to it, in order, until it took it.

The journal knows who is owed what and who may send; the sender is injected. Each listener has a thread of its
own while there is something to send, so that a dead one delays no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from informatics_gateway.watchers import EventSender
from task_manager.errors import DeliveryError, RetryableDeliveryError, StoreError, facts_of
from task_manager.notices import Channel, Journal, Listener, Notice
from task_manager.outbox import RetryPolicy

_LOG = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_AT_ALL_S = 5.0
_AT_ONCE = 50
_IDLE_REPORTS = 500
_FAREWELL_S = 3.0
_LEASE = timedelta(seconds=120)


class DimseChannel:
    """Implements :class:`informatics_gateway.watchers.NoticeChannel` by calling the listeners.

    Parameters
    ----------
    sender
        Sends to one listener.
    owner
        Name of this process, unlike that of any other: it alone sends to a listener while it has the claim.
    retry
        When a listener that could not be reached is tried again.
    """

    def __init__(
        self,
        journal: Journal,
        sender: EventSender,
        *,
        owner: str,
        clock: Callable[[], datetime],
        retry: RetryPolicy | None = None,
    ) -> None:
        self._journal = journal
        self._sender = sender
        self._owner = owner
        self._clock = clock
        self._retry = retry or RetryPolicy()
        self._lock = threading.Lock()
        self._named: set[str] = set()
        self._again: set[str] = set()
        self._known: frozenset[str] = frozenset()
        self._busy: dict[str, threading.Thread] = {}
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dimse-watchers", daemon=True)

    def start(self, position: int) -> None:
        """Begin, with what listeners are owed from before."""
        del position
        self._thread.start()

    def is_idle(self) -> bool:
        """Whether there is no listener; a first one is found within a second."""
        return not self._known

    def tell(self, notices: Sequence[Notice], position: int) -> None:
        """Have those looked at whom the notices name."""
        del position
        if not notices:
            return
        with self._lock:
            self._named.update(*(notice.receiving_aes for notice in notices))
        self._woken.set()

    def tick(self) -> None:
        """Nothing: positions are stored as reports are sent."""

    def stop(self, farewell: Notice) -> None:
        """Tell the listeners that answered so far, and end; a slow one is not waited for."""
        self._ending.set()
        self._woken.set()
        deadline = time.monotonic() + _FAREWELL_S
        if self._thread.is_alive():
            self._thread.join(_FAREWELL_S)
        try:
            listeners = self._journal.listeners(Channel.DIMSE)
        except StoreError:
            listeners = ()
        with self._lock:
            busy = list(self._busy.values())
        for thread in busy:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            still_busy = set(self._busy)
        leaving = [
            threading.Thread(
                target=self._part, args=(listener.receiving_ae, farewell), name="dimse-farewell", daemon=True
            )
            for listener in listeners
            if listener.receiving_ae in farewell.receiving_aes - still_busy and not listener.attempts
        ]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _part(self, receiving_ae: str, farewell: Notice) -> None:
        try:
            self._sender.send(receiving_ae, (farewell,))
        except DeliveryError:
            _LOG.info("a listener missed the farewell", extra={"action": "watchers.farewell_missed"})

    def _run(self) -> None:
        looked_at_all = -_LOOK_AT_ALL_S
        while not self._ending.is_set():
            try:
                at_all = time.monotonic() - looked_at_all >= _LOOK_AT_ALL_S
                self._look(at_all=at_all)
                looked_at_all = time.monotonic() if at_all else looked_at_all
            except StoreError as error:
                _LOG.info("listeners cannot be read", extra={"action": "watchers.store", **facts_of(error)})
            self._woken.wait(_LOOK_S)
            self._woken.clear()

    def _look(self, *, at_all: bool) -> None:
        with self._lock:
            named, self._named = self._named, set()
        now = self._clock()
        listeners = self._journal.listeners(Channel.DIMSE)
        before, self._known = self._known, frozenset(one.receiving_ae for one in listeners)
        named |= self._known - before
        for listener in listeners:
            waits = listener.due_at is not None and listener.due_at > now
            if not waits and (at_all or listener.due_at is not None or listener.receiving_ae in named):
                self._serve_aside(listener)

    def _serve_aside(self, listener: Listener) -> None:
        """Serve a listener in its thread; one that has a thread is looked at again when that is done."""
        with self._lock:
            if listener.receiving_ae in self._busy:
                self._again.add(listener.receiving_ae)
                return
            thread = threading.Thread(
                target=self._serve, args=(listener,), name=f"dimse-to-{listener.receiving_ae}", daemon=True
            )
            self._busy[listener.receiving_ae] = thread
        thread.start()

    def _serve(self, listener: Listener) -> None:
        receiving_ae = listener.receiving_ae
        try:
            while True:
                with self._lock:
                    self._again.discard(receiving_ae)
                reached = self._deliver(listener)
                with self._lock:
                    if not reached or self._ending.is_set() or receiving_ae not in self._again:
                        return
        except StoreError as error:
            _LOG.info("reports cannot be read", extra={"action": "watchers.store", **facts_of(error)})
        except Exception as error:  # noqa: BLE001 - a fault of a sender must not end the thread unseen
            _LOG.error("sending failed", extra={"action": "watchers.failed", **facts_of(error)})
        finally:
            with self._lock:
                self._busy.pop(receiving_ae, None)

    def _deliver(self, listener: Listener) -> bool:
        """Send all that a listener is owed, if nobody else does; whether it could be reached."""
        latest = self._journal.latest()
        if not self._journal.pending(listener.receiving_ae, listener.position, limit=1):
            if latest - listener.position > _IDLE_REPORTS:
                self._journal.delivered(Channel.DIMSE, {listener.receiving_ae: latest})
            return True
        if not self._claim(listener):
            return True
        try:
            present = self._journal.listener(listener.receiving_ae, Channel.DIMSE)
            return self._send(present)
        finally:
            self._journal.claim(listener, owner=self._owner, until=self._clock())

    def _claim(self, listener: Listener) -> bool:
        return self._journal.claim(listener, owner=self._owner, until=self._clock() + _LEASE)

    def _send(self, listener: Listener) -> bool:
        receiving_ae, position = listener.receiving_ae, listener.position
        while not self._ending.is_set():
            owed = self._journal.pending(receiving_ae, position, limit=_AT_ONCE)
            if not owed:
                return True
            handed = _Handed(owed, position)
            try:
                self._sender.send(receiving_ae, handed)
            except DeliveryError as error:
                if handed.position > position:
                    self._journal.delivered(Channel.DIMSE, {receiving_ae: handed.position})
                    listener = self._journal.listener(receiving_ae, Channel.DIMSE)
                self._postpone(listener, error)
                return False
            position = owed[-1].number
            self._journal.delivered(Channel.DIMSE, {receiving_ae: position})
            self._claim(listener)
        return True

    def _postpone(self, listener: Listener, error: DeliveryError) -> None:
        now = self._clock()
        due = now + self._retry.most
        if isinstance(error, RetryableDeliveryError):
            due = self._retry.next_due(listener.attempts + 1, now)
        self._journal.postpone(listener, error=str(error), due_at=due)
        _LOG.warning(
            "a listener could not be reached",
            extra={"action": "watchers.postponed", "ae": listener.receiving_ae, "due": due.isoformat()},
        )


class _Handed:
    """Notices handed to a sender one by one: to ask for the next says that the one before was sent.

    After a failure `position` is that of the last one sent. A sender that had asked for all before it failed
    told nothing by asking: then all will be sent again.
    """

    def __init__(self, notices: Sequence[Notice], position: int) -> None:
        self._notices = notices
        self._before = position
        self._sent = position
        self._all_asked = False

    def __iter__(self) -> Iterator[Notice]:
        for notice in self._notices:
            yield notice
            self._sent = notice.number
        self._all_asked = True

    @property
    def position(self) -> int:
        """Number of the last one known to be sent."""
        return self._before if self._all_asked else self._sent
