# SPDX-License-Identifier: Apache-2.0
"""Event reports on their way out: one reader of the journal, and the channels it hands them to.

The hub reads what was committed, by this process or another, and tells every channel: WebSockets in
``websocket_watchers.py``, peers that are called by DIMSE in ``dimse_watchers.py``. Nobody here waits for a
listener: a channel returns at once, whatever its listeners do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from task_manager.errors import StoreError, facts_of
from task_manager.notices import Journal, Notice

_LOG = logging.getLogger(__name__)

_TICK_S = 0.4
_PACE_S = 0.01
_STORE_AWAY_S = 1.0


class WatchedJournal(Journal, Protocol):
    """A journal that also knows who is told of the manager's own status (PS3.4 CC.2.4.3)."""

    def status_audience(self) -> frozenset[str]:
        """AEs with any subscription, and the configured ones."""


class NoticeChannel(Protocol):
    """One way to tell."""

    def start(self, position: int) -> None:
        """Begin: what is written after `position` will be told."""

    def is_idle(self) -> bool:
        """Whether there is nobody to tell now."""

    def tell(self, notices: Sequence[Notice], position: int) -> None:
        """Take what was read of the journal, to `position`; returns at once."""

    def tick(self) -> None:
        """Do what is due from time to time; called a few times a second.

        Raises
        ------
        StoreError
            If positions cannot be stored; they will be tried again.
        """

    def stop(self, farewell: Notice) -> None:
        """Tell `farewell` to those it names who can hear it now, and end."""


class WatcherHub:
    """Reads the journal when woken, else a few times a second, and tells the channels.

    The pause is also the longest that reports of another process on the same SQLite file wait. What comes
    while it reads is read together after a moment; while there is nobody to tell, it costs nothing.

    Parameters
    ----------
    farewell
        Makes the notice that is told live when the hub stops, from those who are to be told.
    """

    def __init__(
        self,
        journal: WatchedJournal,
        channels: Sequence[NoticeChannel],
        *,
        farewell: Callable[[frozenset[str]], Notice],
    ) -> None:
        self._journal = journal
        self._channels = tuple(channels)
        self._farewell = farewell
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._position = 0
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="watchers", daemon=True)

    def start(self) -> None:
        """Begin with what is written from now on; listeners that were away are served by their channel.

        Raises
        ------
        StoreError
            If the journal cannot be read.
        """
        self._position = self._journal.latest()
        for channel in self._channels:
            channel.start(self._position)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to tell: called after commits, from any thread."""
        if not self._woken.is_set():
            self._woken.set()

    def stop(self) -> None:
        """Tell what is committed, then that we go down, and close the channels."""
        self._ending.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(10)
        audience: frozenset[str] = frozenset()
        try:
            self._read()
            audience = self._journal.status_audience()
        except StoreError as error:
            self._note(error)
        for channel in self._channels:
            channel.stop(self._farewell(audience))

    def _run(self) -> None:
        ticked = time.monotonic()
        while not self._ending.is_set():
            self._woken.wait(_TICK_S)
            self._woken.clear()
            due = time.monotonic() - ticked >= _TICK_S
            try:
                if not self._is_idle():
                    self._read()
                elif due:
                    self._pass_over()
                self._ending.wait(_PACE_S)
                if due:
                    ticked = time.monotonic()
                    for channel in self._channels:
                        channel.tick()
                self._failed = False
            except StoreError as error:
                self._note(error)
                self._ending.wait(_STORE_AWAY_S)
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a channel does
                _LOG.error("watchers failed", extra={"action": "watchers.failed", **facts_of(error)})
                self._ending.wait(_STORE_AWAY_S)

    def _is_idle(self) -> bool:
        return all(channel.is_idle() for channel in self._channels)

    def _pass_over(self) -> None:
        """Go to the end of the journal. Who comes while that is read looks up what is behind it."""
        latest = self._journal.latest()
        if self._is_idle():
            self._position = latest

    def _read(self) -> None:
        while True:
            notices, position = self._journal.after(self._position)
            if position == self._position:
                return
            for channel in self._channels:
                channel.tell(notices, position)
            self._position = position

    def _note(self, error: StoreError) -> None:
        """Once for each time the store is away."""
        if not self._failed:
            _LOG.warning("the journal cannot be read", extra={"action": "watchers.store", **facts_of(error)})
        self._failed = True


class EventSender(Protocol):
    """Sends event reports to a DICOM peer (N-EVENT-REPORT)."""

    def send(self, receiving_ae: str, notices: Iterable[Notice]) -> None:
        """Send `notices` in their order over one association; to ask for the next one says: sent.

        Raises
        ------
        RetryableDeliveryError
            If the peer cannot be reached now, or breaks off.
        FinalDeliveryError
            If the peer is not known or takes no event reports; tried again after a long pause.
        """
