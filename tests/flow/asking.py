# SPDX-License-Identifier: Apache-2.0
"""The lightest UPS-RS client and WebSocket watcher, for tests under load: many of them fit on two cores."""

from __future__ import annotations

import http.client
import json
import threading
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import connect

from conformance.peers.process import wait_until
from profiles.dicom_json import DicomJson, element, merged

PREFIX = "/dicom-web"
_TIMEOUT_S = 30.0
_AGAIN_S = 0.02
_HEADERS = {"Accept": "application/dicom+json", "Content-Type": "application/dicom+json"}


class Asker:
    """One keep-alive connection to a worklist; not for several threads."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, content: DicomJson | None = None) -> tuple[int, Any]:
        """Status and JSON of the answer; OSError or HTTPException if there is none."""
        body = None if content is None else json.dumps(content).encode()
        try:
            self._connection.request(method, PREFIX + path, body, _HEADERS)
            answer = self._connection.getresponse()
            read = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        return answer.status, json.loads(read) if read else None

    def create(self, uid: str, attributes: DicomJson) -> int:
        """UPS Create."""
        return self.ask("POST", f"/workitems?{uid}", attributes)[0]

    def update(self, uid: str, changes: DicomJson, lock: str = "") -> int:
        """UPS Set."""
        return self.ask("POST", f"/workitems/{uid}" + (f"?transaction-uid={lock}" if lock else ""), changes)[
            0
        ]

    def change_state(self, uid: str, state: str, lock: str) -> int:
        """Change UPS State."""
        content = merged([element("ProcedureStepState", state), element("TransactionUID", lock)])
        return self.ask("PUT", f"/workitems/{uid}/state", content)[0]

    def retrieve(self, uid: str) -> DicomJson | None:
        """UPS Get; None if there is no such workitem."""
        status, found = self.ask("GET", f"/workitems/{uid}")
        if status == 404:
            return None
        assert status == 200, (status, found)
        (workitem,) = found
        return dict(workitem)

    def subscribe(self, target: str, receiving_ae: str) -> int:
        """Subscribe."""
        return self.ask("POST", f"/workitems/{target}/subscribers/{receiving_ae}")[0]


class Watcher:
    """Keeps a notification connection open, whatever happens to the server, and every message.

    Attributes
    ----------
    messages
        Event reports in the order they came.
    """

    def __init__(self, port: int, receiving_ae: str) -> None:
        self.messages: list[DicomJson] = []
        self.connections = 0
        self._url = f"ws://127.0.0.1:{port}{PREFIX}/subscribers/{receiving_ae}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=receiving_ae)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.connections, "the watcher connected")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_TIMEOUT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with connect(
                    self._url, open_timeout=5, close_timeout=1, compression=None, proxy=None
                ) as channel:
                    self.connections += 1
                    self._listen(channel)
            except (OSError, EOFError, ConnectionClosed, InvalidHandshake, InvalidMessage):
                self._ended.wait(_AGAIN_S)

    def _listen(self, channel: Any) -> None:
        while not self._ended.is_set():
            try:
                self.messages.append(json.loads(channel.recv(timeout=0.2)))
            except TimeoutError:
                continue
