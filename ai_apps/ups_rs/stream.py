# SPDX-License-Identifier: Apache-2.0
"""A WebSocket channel of events that outlives its connections (PS3.18 8.10, 11.13).

Opening is: connect, then subscribe, then look at how things stand. So whatever changes after the look comes
as an event, and whatever changed before it is seen by the look; events that tell what is known already may
come too. No server is relied on to keep events for a listener that is away.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING

from ai_apps.ups_rs.channel import Channel, channel_urls, open_channel
from ai_apps.ups_rs.connection import Connection
from ai_apps.ups_rs.errors import NoEventChannelError, NotFoundError, RefusedError, UnreachableError
from ai_apps.ups_rs.events import Resync, Resynchronized, UpsEvent, read_events
from profiles.dicom_json import DicomJson, text
from profiles.ups.report import EventType
from profiles.ups.states import FINAL_STATES, GLOBAL_SUBSCRIPTION_UID, WELL_KNOWN_UIDS

if TYPE_CHECKING:
    from ai_apps.ups_rs.client import UpsRsClient

logger = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 30.0
_HEALTHY_S = 30.0
_LOOK_UP_S = 0.5
_MOST_KNOWN = 10_000
_PAGE = 500


class EventStream:
    """Events of one AE; made by :meth:`ai_apps.ups_rs.client.UpsRsClient.events`.

    Iterate over it, or call :meth:`receive` to wait for a limited time; one thread may do so, any may close.
    Each opening gives a :class:`~ai_apps.ups_rs.events.Resynchronized` before the events that follow it.

    Attributes
    ----------
    connected
        Whether a channel is open now.
    skipped
        Messages that were no event reports.
    """

    def __init__(
        self,
        client: UpsRsClient,
        connection: Connection,
        receiving_ae: str,
        *,
        targets: tuple[str, ...],
        matching: Mapping[str, str] | None,
        lock: bool,
        resync: Resync | None,
        stop: threading.Event | None,
        channel_url: str,
    ) -> None:
        self.connected = threading.Event()
        self.skipped = 0
        self._client = client
        self._connection = connection
        self._receiving_ae = receiving_ae
        self._matching = matching
        self._targets = tuple(t for t in targets if not (matching and t in WELL_KNOWN_UIDS))
        self._lock = lock
        self._resync = resync or self._default_resync()
        self._stop = stop or threading.Event()
        self._closed = threading.Event()
        self._given_url = channel_url
        self._working_url = ""
        self._was_open = False
        self._channel: Channel | None = None
        self._pending: deque[UpsEvent | Resynchronized] = deque()
        self._known_open: dict[str, None] = {}
        self._opened_at = 0.0
        self._delay_s = 0.0
        self._due = 0.0

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[UpsEvent | Resynchronized]:
        while (value := self.receive()) is not None:
            yield value

    def close(self) -> None:
        """End the stream; a thread that waits in it returns. Subscriptions stay."""
        self._closed.set()
        channel = self._channel
        if channel is not None:
            channel.close()
        self.connected.clear()

    def open(self) -> None:
        """Open the channel now, instead of at the first :meth:`receive`.

        Raises
        ------
        UnreachableError
            If the server cannot be reached.
        NoEventChannelError
            If no known address opens a channel.
        RefusedError
            If the server refuses a subscription or the look at the worklist.
        """
        if self._channel is not None:
            return
        self._channel, subscribed = self._connect()
        try:
            if not subscribed:
                self._subscribe()
            self._pending.append(self._look())
        except BaseException:
            self._drop()
            raise
        self._opened_at = time.monotonic()
        self._was_open = True
        self.connected.set()
        logger.info("event channel opened", extra={"action": "events.opened"})

    def receive(self, timeout_s: float | None = None) -> UpsEvent | Resynchronized | None:
        """The next event, or None if the stream was closed or `timeout_s` has passed.

        A lost connection is opened again, with growing pauses.

        Raises
        ------
        NoEventChannelError, RefusedError
            If the server refused the very first opening; what refuses later is tried again.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_over():
            if self._pending:
                return self._pending.popleft()
            left = _LOOK_UP_S if ends is None else min(_LOOK_UP_S, ends - time.monotonic())
            if left <= 0:
                return None
            if self._channel is not None:
                self._read(self._channel, left)
            elif self._due > time.monotonic():
                self._closed.wait(min(left, self._due - time.monotonic()))
            else:
                self._open_again()
        self._drop()
        return None

    def _is_over(self) -> bool:
        return self._closed.is_set() or self._stop.is_set()

    def _open_again(self) -> None:
        try:
            self.open()
        except UnreachableError:
            self._postpone()
        except RefusedError as error:
            if not self._was_open:
                raise
            logger.warning(
                "event channel refused", extra={"action": "events.refused", "status": error.status}
            )
            self._postpone()

    def _connect(self) -> tuple[Channel, bool]:
        """A channel at the first address that gives one, and whether subscribing had to tell which."""
        known = channel_urls(self._client.base_url, self._receiving_ae, given=self._given_url)
        if self._working_url:
            known = (self._working_url,)
        try:
            channel = open_channel(self._connection, known)
        except NoEventChannelError:
            if self._working_url:  # it was there before: it is away for a while, or has moved
                self._working_url = ""
                raise UnreachableError("the event channel is away") from None
            told = channel_urls(
                self._client.base_url, self._receiving_ae, given=self._subscribe(), guess=False
            )
            channel = open_channel(self._connection, tuple(url for url in told if url not in known))
            self._working_url = channel.url
            return channel, True
        self._working_url = channel.url
        return channel, False

    def _subscribe(self) -> str:
        """Subscribe to everything asked for; the address of the channel if the server tells it.

        Again is harmless, and heals a server that forgot.
        """
        subscriptions = []
        for target in self._targets:
            try:
                subscriptions.append(self._client.subscribe(self._receiving_ae, target, lock=self._lock))
            except NotFoundError:
                if not self._was_open or target in WELL_KNOWN_UIDS:
                    raise
                # Deleted meanwhile: the look tells that it is missing.
        if self._matching:
            subscriptions.append(
                self._client.subscribe(self._receiving_ae, matching=self._matching, lock=self._lock)
            )
        told = [one.channel_url for one in subscriptions if one.channel_url]
        return told[-1] if told else ""

    def _look(self) -> Resynchronized:
        """How the watched workitems stand now."""
        found: list[DicomJson] = []
        complete = True
        if self._resync.matching is not None:
            results = self._client.search_all(self._resync.matching, include=self._resync.include, page=_PAGE)
            found = list(islice(results, self._resync.most + 1))
            complete = len(found) <= self._resync.most
            del found[self._resync.most :]
        seen = {text(one, "SOPInstanceUID") for one in found}
        missing: list[str] = []
        for uid in dict.fromkeys((*self._resync.workitems, *self._known_open)):
            if uid in seen:
                continue
            try:
                found.append({"00080018": {"vr": "UI", "Value": [uid]}, **self._client.retrieve(uid)})
            except NotFoundError:
                missing.append(uid)
                self._known_open.pop(uid, None)
        for one in found:
            self._know(text(one, "SOPInstanceUID"), text(one, "ProcedureStepState"))
        return Resynchronized(workitems=tuple(found), missing=tuple(missing), complete=complete)

    def _read(self, channel: Channel, timeout_s: float) -> None:
        try:
            message = channel.receive(timeout_s)
        except UnreachableError:
            self._drop()
            if not self._is_over():
                self._postpone()
            return
        if message is None:
            return
        try:
            events = read_events(message)
        except ValueError:
            self.skipped += 1
            logger.warning("message is no event report", extra={"action": "events.skipped"})
            return
        self._pending.extend(events)
        for event in events:
            if event.type is EventType.STATE_REPORT:
                self._know(event.workitem_uid, event.state)
        if any(event.server_status == "RESTARTED" for event in events):
            self._start_over()

    def _start_over(self) -> None:
        """A server that started anew may have forgotten subscriptions (event 4)."""
        try:
            self._subscribe()
            self._pending.append(self._look())
        except (UnreachableError, RefusedError):
            self._drop()
            self._postpone()

    def _know(self, uid: str, state: str) -> None:
        """Remember which workitems were open when last heard of, if they are to be looked at at all."""
        if self._resync.matching is None or not state:
            return
        if state in FINAL_STATES:
            self._known_open.pop(uid, None)
        elif len(self._known_open) < _MOST_KNOWN:
            self._known_open[uid] = None

    def _drop(self) -> None:
        channel, self._channel = self._channel, None
        self.connected.clear()
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.close()

    def _postpone(self) -> None:
        healthy = self._opened_at and time.monotonic() - self._opened_at > _HEALTHY_S
        self._opened_at = 0.0
        self._delay_s = (
            _FIRST_DELAY_S if healthy else min(max(self._delay_s * 2, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        )
        self._due = time.monotonic() + self._delay_s * random.uniform(0.75, 1.25)
        logger.warning(
            "event channel lost, opening it again",
            extra={"action": "events.lost", "pause_s": round(self._delay_s, 2)},
        )

    def _default_resync(self) -> Resync:
        if self._matching or GLOBAL_SUBSCRIPTION_UID in self._targets:
            return Resync(matching=self._matching or {})
        return Resync(workitems=tuple(t for t in self._targets if t not in WELL_KNOWN_UIDS))
