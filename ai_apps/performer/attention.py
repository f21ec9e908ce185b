# SPDX-License-Identifier: Apache-2.0
"""Listening to the task manager while work is awaited and done: triggered pull (IHE AIW-I 50.4.2.2).

A thread holds the event channel open. It wakes the loop when there may be work, and tells the run of a held
workitem that its cancellation is asked for. Without a channel nothing here happens and the loop polls.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.errors import NoEventChannelError, RefusedError, UnreachableError
from ai_apps.ups_rs.events import NO_RESYNC, Resynchronized, UpsEvent
from ai_apps.ups_rs.stream import EventStream
from profiles.codes import Code
from profiles.ups.report import EventType
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID

logger = logging.getLogger(__name__)

_RETRY_S = 60.0
_LOOK_UP_S = 0.2


class Attention:
    """The event channel of one performer; a context manager.

    Parameters
    ----------
    station
        AE title that is subscribed.
    codes
        Workitem codes performed. A single one is subscribed to by filter where the server can; else all
        workitems are.
    retry_s
        Seconds until a server that offered no channel is asked again.
    """

    def __init__(
        self, client: UpsRsClient, *, station: str, codes: Sequence[Code], retry_s: float = _RETRY_S
    ) -> None:
        self._client = client
        self._station = station
        self._filter = _filter(codes)
        self._retry_s = retry_s
        self._news = threading.Event()
        self._closing = threading.Event()
        self._stream: EventStream | None = None
        self._held: dict[str, Callable[[UpsEvent], None]] = {}
        self._thread = threading.Thread(target=self._work, name="performer-attention", daemon=True)

    def __enter__(self) -> Attention:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        self._thread.join()

    @property
    def listening(self) -> bool:
        """Whether the channel is open."""
        stream = self._stream
        return stream is not None and stream.connected.is_set()

    def forget_news(self) -> None:
        """What was told so far is about to be looked at."""
        self._news.clear()

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Wait for news, until `stop` is set, the channel is lost or time is over."""
        waited = 0.0
        while self.listening and waited < timeout_s and not stop.is_set():
            if self._news.wait(_LOOK_UP_S):
                return
            waited += _LOOK_UP_S

    @contextlib.contextmanager
    def holding(self, uid: str, told: Callable[[UpsEvent], None]) -> Iterator[None]:
        """Pass events of a workitem to `told`, in the thread of the channel, for the time of the block."""
        self._held[uid] = told
        try:
            yield
        finally:
            self._held.pop(uid, None)

    def follow(self, uid: str) -> None:
        """Subscribe to a workitem that was claimed earlier: a cancel request that waits is then told."""
        try:
            self._client.subscribe(self._station, uid)
        except (UnreachableError, RefusedError) as error:
            extra = {"action": "performer.not_followed", "workitem": uid, "error": type(error).__name__}
            logger.warning("workitem cannot be subscribed to", extra=extra)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except NoEventChannelError:
                logger.info("no event channel, polling", extra={"action": "performer.no_channel"})
            except RefusedError as error:
                if self._filter is not None:
                    self._filter = None  # filtered subscriptions are optional (CC.2.3.3.1)
                    continue
                extra = {"action": "performer.not_subscribed", "status": error.status}
                logger.warning("not subscribed, polling", extra=extra)
            except Exception:
                logger.exception("event channel failed, polling", extra={"action": "performer.no_channel"})
            self._closing.wait(self._retry_s)

    def _listen(self) -> None:
        with self._client.events(
            self._station,
            targets=() if self._filter else (GLOBAL_SUBSCRIPTION_UID,),
            matching=self._filter,
            resync=NO_RESYNC,
            stop=self._closing,
        ) as stream:
            self._stream = stream
            for told in stream:
                self._take(told)

    def _take(self, told: UpsEvent | Resynchronized) -> None:
        if isinstance(told, Resynchronized):
            self._news.set()
            for uid in list(self._held):
                self.follow(uid)
            return
        listener = self._held.get(told.workitem_uid)
        if listener is not None:
            listener(told)
        elif told.type is EventType.ASSIGNED or (
            told.type is EventType.STATE_REPORT
            and told.state == "SCHEDULED"
            and told.input_readiness in ("READY", "")
        ):
            self._news.set()


def _filter(codes: Sequence[Code]) -> dict[str, str] | None:
    if len(codes) != 1 or any(mark in codes[0].value + codes[0].scheme for mark in ",=*?\\"):
        return None
    return {
        "ScheduledWorkitemCodeSequence.CodeValue": codes[0].value,
        "ScheduledWorkitemCodeSequence.CodingSchemeDesignator": codes[0].scheme,
    }
