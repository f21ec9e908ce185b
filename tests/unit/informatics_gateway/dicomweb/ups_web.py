# SPDX-License-Identifier: Apache-2.0
"""The UPS-RS door over a worklist in memory, and how its answers are read."""

from __future__ import annotations

import json
from typing import Any

import httpx
from fastapi import FastAPI

from informatics_gateway.dicomweb import ups_rs
from profiles.dicom_json import DicomJson, element, merged
from task_manager.ports import Subscriptions, Worklist
from task_manager.workitem.memory import MemoryWorklist
from tests.asgi import AsgiClient
from tests.contract.workitems import NOW
from tests.contract.worklist import bring_to, state_of

UID, LOCK, OTHER = "2.25.100", "2.25.1", "2.25.2"
BASE = "http://airway.test/dicom-web"
JSON_TYPE = "application/dicom+json"
HEADERS = {"Content-Type": JSON_TYPE}
S, P, C, X = "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED"


class Web:
    """The door over a worklist in memory, or over another."""

    def __init__(
        self,
        worklist: Worklist | None = None,
        subscriptions: Subscriptions | None = None,
        *,
        public_url: str = "",
    ) -> None:
        self.worklist = MemoryWorklist(lambda: NOW)
        self.app = FastAPI()
        self.app.include_router(
            ups_rs.router(worklist or self.worklist, subscriptions, public_url=public_url)
        )
        self._client = AsgiClient(self.app)

    def ask(self, method: str, path: str, payload: object = None, **options: Any) -> httpx.Response:
        if payload is not None:
            options = {"content": json.dumps(payload).encode(), "headers": HEADERS, **options}
        return self._client.request(method, f"/dicom-web{path}", **options)

    def create(self, state: str = S, uid: str = UID) -> None:
        bring_to(self.worklist, state, uid)

    def state(self, uid: str = UID) -> str:
        return state_of(self.worklist, uid)


def paths(answer: httpx.Response) -> list[str]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["status"] == answer.status_code
    return [fault["path"] for fault in answer.json()["faults"]]


def warnings(answer: httpx.Response) -> list[str]:
    prefix = f"299 {BASE}: "
    found = answer.headers.get_list("warning")
    assert all(one.startswith(prefix) for one in found)
    return [one.removeprefix(prefix) for one in found]


def state_payload(state: str, uid: str = LOCK) -> list[DicomJson]:
    return [merged([element("TransactionUID", uid), element("ProcedureStepState", state)])]
