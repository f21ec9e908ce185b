# SPDX-License-Identifier: Apache-2.0
"""The worklist of a push performer, by UPS-RS: the manager is its user agent (IHE AIW-I TF-1:50.4.2.3).

Implements :class:`task_manager.dispatch.push.PushTarget`. Event reports by WebSocket only make it look
earlier: what is true is retrieved, so a lost one costs time and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from informatics_gateway.dicomweb.outbound import DicomWebService
from profiles.dicom_json import DicomJson
from profiles.uids import is_uid
from task_manager.errors import DeliveryError, RetryableDeliveryError, StoreError, facts_of

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_MOST_MESSAGE_BYTES = 1024 * 1024
_INSTANCE_TAGS = ("00001000", "00001001", "00080018")  # where servers name the workitem of a report


class PushClient:
    """A performer's worklist.

    Parameters
    ----------
    base_url, token_file, ca_file, timeout_s
        See :class:`~informatics_gateway.dicomweb.outbound.DicomWebService`.
    receiving_ae
        Our AE title: who subscribes.

    Raises
    ------
    ConfigurationError
        If the address is not safe to use.
    """

    def __init__(
        self,
        base_url: str,
        *,
        receiving_ae: str,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._service = DicomWebService(base_url, token_file=token_file, ca_file=ca_file, timeout_s=timeout_s)
        self._receiving_ae = quote(receiving_ae, safe="")
        self._timeout_s = timeout_s
        self._told_channel = ""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._channel: ClientConnection | None = None
        self._thread: threading.Thread | None = None

    def create(self, uid: str, attributes: DicomJson) -> None:
        """Create Workitem (PS3.18 11.4); one that is there already counts as created."""
        self._service.ask(
            "POST", "/workitems", query=((_checked(uid), ""),), data_set=attributes, expected=(200, 201, 409)
        )

    def retrieve(self, uid: str) -> DicomJson | None:
        """Retrieve Workitem (11.5); None if the performer does not know it."""
        answer = self._service.ask("GET", f"/workitems/{_checked(uid)}", expected=(200, 404, 410))
        if answer.status != 200:
            return None
        found = answer.data_sets()
        if len(found) != 1:
            raise RetryableDeliveryError("the answer does not hold one workitem")
        return found[0]

    def update(self, uid: str, changes: DicomJson) -> None:
        """Update (11.6) a workitem that waits; a performer that will not change it says so, and goes on."""
        expected = (200, 201, 204, 400, 403, 404, 405, 409, 410)
        answer = self._service.ask("POST", f"/workitems/{_checked(uid)}", data_set=changes, expected=expected)
        if answer.status >= 400:
            extra = {"action": "push.will_not_change", "workitem": uid, "status": answer.status}
            _LOG.warning("performer does not take a change of what was pushed", extra=extra)

    def request_cancel(self, uid: str, details: DicomJson) -> None:
        """Request Cancellation (11.8); a performer that will not cancel says so, and goes on."""
        expected = (200, 202, 400, 403, 404, 409, 410)
        answer = self._service.ask(
            "POST", f"/workitems/{_checked(uid)}/cancelrequest", data_set=details, expected=expected
        )
        if answer.status in (400, 403):
            extra = {"action": "push.will_not_cancel", "workitem": uid, "status": answer.status}
            _LOG.warning("performer does not take a cancel request", extra=extra)

    def watch(self, uid: str) -> None:
        """Subscribe (11.10) with a deletion lock."""
        answer = self._service.ask(
            "POST",
            f"/workitems/{_checked(uid)}/subscribers/{self._receiving_ae}",
            query=(("deletionlock", "true"),),
            expected=(200, 201, 202, 204),
        )
        self._told_channel = self._channel_told(answer.headers.get("content-location", ""))

    def release(self, uid: str) -> None:
        """Unsubscribe (11.11)."""
        self._service.ask(
            "DELETE",
            f"/workitems/{_checked(uid)}/subscribers/{self._receiving_ae}",
            expected=(200, 202, 204, 403, 404, 409, 410),
        )

    def listen(self, heard: Callable[[str], None]) -> None:
        """Call `heard` from a thread of its own with the UID of each workitem a report comes of.

        The channel is opened again whenever it is lost, until `close`.
        """
        self._thread = threading.Thread(
            target=self._listen, args=(heard,), name=f"push-events {self._service.base_url}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close the connections."""
        self._stopping.set()
        with self._lock:
            channel = self._channel
        if channel is not None:
            channel.close()
        if self._thread is not None:
            self._thread.join(self._timeout_s)
        self._service.close()

    def _listen(self, heard: Callable[[str], None]) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                opened = self._follow(heard)
            except (OSError, WebSocketException, DeliveryError, ValueError) as error:
                opened = False
                extra = {"action": "push.no_channel", "error": type(error).__name__}
                _LOG.info("no event channel of a performer, polling goes on", extra=extra)
            except Exception as error:  # noqa: BLE001 - the edge of this thread: it must go on listening
                opened = False
                _LOG.error("event channel failed", extra={"action": "push.channel_error", **facts_of(error)})
            pause_s = _FIRST_PAUSE_S if opened else min(pause_s * 2, _LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)

    def _follow(self, heard: Callable[[str], None]) -> bool:
        """Read one channel until it ends; whether it was open."""
        url = self._told_channel or self._default_channel()
        secure = url.startswith("wss:")
        with connect(
            url,
            ssl=self._service.trust if secure else None,
            additional_headers=self._service.credentials(),
            open_timeout=self._timeout_s,
            close_timeout=1.0,
            max_size=_MOST_MESSAGE_BYTES,
            proxy=None,
        ) as channel:
            with self._lock:
                self._channel = channel
            try:
                for message in channel:
                    uid = reported_workitem(message)
                    if uid:
                        self._tell(heard, uid)
                    if self._stopping.is_set():
                        break
            finally:
                with self._lock:
                    self._channel = None
        return True

    def _tell(self, heard: Callable[[str], None], uid: str) -> None:
        try:
            heard(uid)
        except StoreError as error:  # polling finds out
            extra = {"action": "push.not_heard", "workitem": uid, **facts_of(error)}
            _LOG.warning("event of a pushed workitem not noted", extra=extra)

    def _default_channel(self) -> str:
        _, _, rest = self._service.base_url.partition("://")
        scheme = "wss" if self._service.base_url.lower().startswith("https") else "ws"
        return f"{scheme}://{rest}/subscribers/{self._receiving_ae}"

    def _channel_told(self, address: str) -> str:
        """The channel that the answer to a subscription names, if it is where the worklist is."""
        ours = urlsplit(self._service.base_url)
        try:
            told = urlsplit(address)
            same = told.scheme in ("ws", "wss") and (told.hostname, told.port) == (ours.hostname, ours.port)
        except ValueError:
            return ""
        downgraded = ours.scheme == "https" and told.scheme == "ws"
        return address if same and not downgraded else ""


def reported_workitem(message: str | bytes) -> str:
    """UID of the workitem that an event report is about; empty if it names none."""
    try:
        report = orjson.loads(message)
    except orjson.JSONDecodeError:
        return ""
    if isinstance(report, list) and len(report) == 1:
        report = report[0]
    if not isinstance(report, dict):
        return ""
    for tag in _INSTANCE_TAGS:
        element = report.get(tag)
        found = element.get("Value") if isinstance(element, dict) else None
        if isinstance(found, list) and found and isinstance(found[0], str) and is_uid(found[0]):
            return found[0]
    return ""


def _checked(uid: str) -> str:
    if not is_uid(uid):
        raise ValueError("not a UID")
    return uid
