# SPDX-License-Identifier: Apache-2.0
"""Watchers that listen by WebSocket: the connections there are, what each has yet to be sent, how far it is.

Reports come in from the thread of the hub and are queued in the event loop of each connection; the coroutine
that serves a connection (``dicomweb/event_channel.py``) takes them from there. A queue that overflows gives
its connection up: what it missed is told when the AE is back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence

from task_manager.notices import Channel, Journal, Notice

MOST_CONNECTIONS = 2000
_MOST_QUEUED = 1000
_SILENT_S = 30.0
_FAREWELL_S = 2.0

GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013


class Connection:
    """One open WebSocket of an AE. All but `position` belongs to its event loop.

    Attributes
    ----------
    position
        Nothing up to this number will be sent any more; None until it is known where to begin.
    sent
        Number of the last report that was sent.
    queue
        What is to be sent next.
    ready
        Set when there is something to do: a report, a farewell.
    given_up
        Set when the connection is to be closed whatever it has not been sent; `close_code` says why.
    """

    def __init__(self, receiving_ae: str, loop: asyncio.AbstractEventLoop, *, most_queued: int) -> None:
        self.receiving_ae = receiving_ae
        self.loop = loop
        self.position: int | None = None
        self.sent = 0
        self.queue: deque[Notice] = deque()
        self.ready = asyncio.Event()
        self.given_up = asyncio.Event()
        self.close_code = TRY_AGAIN_LATER
        self.farewell: Notice | None = None
        self.live = False
        self._missed = False
        self._told = 0
        self._most_queued = most_queued

    def take(self, notices: Sequence[Notice], position: int) -> None:
        """Queue the notices that name this AE; until the connection is live, too many are looked up later."""
        for notice in notices:
            if self.receiving_ae not in notice.receiving_aes:
                continue
            if len(self.queue) >= self._most_queued:
                if self.live:
                    self.given_up.set()
                    return
                self.queue.clear()
                self._missed = True
            self.queue.append(notice)
        self._told = position
        self.ready.set()

    def look_up_again(self) -> bool:
        """Whether reports were left out of the queue since the last time this was asked."""
        missed, self._missed = self._missed, False
        return missed

    def next_notice(self) -> Notice | None:
        """The next report to be sent; None if there is none now."""
        while self.queue:
            notice = self.queue.popleft()
            if notice.number > (self.position or 0):
                return notice
        self.position = max(self.position or 0, self._told)
        return None

    def was_sent(self, notice: Notice) -> None:
        """Remember that a report went out."""
        self.position = self.sent = max(self.position or 0, notice.number)

    def part(self, farewell: Notice) -> None:
        """Send what is queued, then `farewell` if it names this AE, then close; do not wait long."""
        self.farewell = farewell
        self.close_code = GOING_AWAY
        self.ready.set()
        self.loop.call_later(_FAREWELL_S, self.given_up.set)


class WebSocketChannel:
    """Implements :class:`informatics_gateway.watchers.NoticeChannel` over the connections that are open.

    Positions are stored a few times a second and when the channel stops: a process that is killed tells the
    reports of the last moment again when their AE is back. Of several connections of an AE the one furthest
    behind counts.
    """

    def __init__(
        self, journal: Journal, *, most_connections: int = MOST_CONNECTIONS, most_queued: int = _MOST_QUEUED
    ) -> None:
        self._journal = journal
        self._most_connections = most_connections
        self._most_queued = most_queued
        self._lock = threading.Condition()
        self._connections: set[Connection] = set()
        self._departed: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        self._silent_since = time.monotonic()
        self._serving = False

    # What the door calls, in the event loop of the connection

    def open(self, receiving_ae: str) -> Connection | None:
        """A new connection of an AE, which begins to queue at once; None when there can be none now.

        Before the hub reads there is none: what is written until then would be missed.
        """
        connection = Connection(receiving_ae, asyncio.get_running_loop(), most_queued=self._most_queued)
        with self._lock:
            if not self._serving or len(self._connections) >= self._most_connections:
                return None
            self._connections.add(connection)
        return connection

    def leave(self, connection: Connection) -> None:
        """A connection has ended."""
        with self._lock:
            self._connections.discard(connection)
            if connection.position is not None:
                before = self._departed.get(connection.receiving_ae, 0)
                self._departed[connection.receiving_ae] = max(before, connection.position)
            self._lock.notify_all()

    # What the door calls in a thread

    def position_of(self, receiving_ae: str) -> int:
        """How far an AE has come, stored or not yet stored.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        stored = self._journal.listener(receiving_ae, Channel.WEBSOCKET).position
        with self._lock:
            known = [stored, self._departed.get(receiving_ae, 0)]
            others = [one.position for one in self._connections if one.receiving_ae == receiving_ae]
        return max(*known, min((at for at in others if at is not None), default=0))

    def pending(self, receiving_ae: str, position: int) -> Sequence[Notice]:
        """What an AE is owed after `position`, a part of it if it is much.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        return self._journal.pending(receiving_ae, position)

    # What the hub calls

    def start(self, position: int) -> None:
        """Connections may come."""
        del position
        with self._lock:
            self._serving = True

    def is_idle(self) -> bool:
        """Whether no connection is open."""
        with self._lock:
            return not self._connections

    def tell(self, notices: Sequence[Notice], position: int) -> None:
        """Queue the notices at the connections they concern."""
        for loop, connections in self._by_loop().items():
            _call_soon(loop, _hand_out, connections, notices, position)

    def tick(self) -> None:
        """Store how far the AEs have come: at once where something was sent, else now and then."""
        now = time.monotonic()
        silent_too = now - self._silent_since >= _SILENT_S
        if silent_too:
            self._silent_since = now
        self._store(silent_too=silent_too)

    def stop(self, farewell: Notice) -> None:
        """Tell `farewell`, close all connections and store how far they came."""
        with self._lock:
            self._serving = False
        for loop, connections in self._by_loop().items():
            for connection in connections:
                _call_soon(loop, connection.part, farewell)
        deadline = time.monotonic() + 2 * _FAREWELL_S
        with self._lock:
            while self._connections and (left := deadline - time.monotonic()) > 0:
                self._lock.wait(left)
        self._store(silent_too=True)

    def _by_loop(self) -> dict[asyncio.AbstractEventLoop, list[Connection]]:
        groups: dict[asyncio.AbstractEventLoop, list[Connection]] = {}
        with self._lock:
            for connection in self._connections:
                groups.setdefault(connection.loop, []).append(connection)
        return groups

    def _store(self, *, silent_too: bool) -> None:
        with self._lock:
            departed = dict(self._departed)
            behind: dict[str, tuple[int, int]] = {}
            for one in self._connections:
                position = one.position
                if position is not None:
                    other = behind.get(one.receiving_ae, (position, 0))
                    behind[one.receiving_ae] = min(position, other[0]), max(one.sent, other[1])
        positions = {ae: position for ae, position in departed.items() if ae not in behind}
        for ae, (position, sent) in behind.items():
            if silent_too or sent > self._stored.get(ae, 0):
                positions[ae] = position
        changed = {ae: at for ae, at in positions.items() if at > self._stored.get(ae, 0)}
        self._journal.delivered(Channel.WEBSOCKET, changed)
        self._stored.update(changed)
        with self._lock:
            for ae, at in departed.items():
                if self._departed.get(ae) == at:
                    del self._departed[ae]
                if ae not in behind:
                    self._stored.pop(ae, None)


def _hand_out(connections: Sequence[Connection], notices: Sequence[Notice], position: int) -> None:
    for connection in connections:
        connection.take(notices, position)


def _call_soon(loop: asyncio.AbstractEventLoop, call: object, *arguments: object) -> None:
    """Have `call` made in `loop`; a loop that has closed has no connections any more."""
    try:
        loop.call_soon_threadsafe(call, *arguments)  # type: ignore[arg-type]
    except RuntimeError:
        return
