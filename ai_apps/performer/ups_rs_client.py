# SPDX-License-Identifier: Apache-2.0
"""A UPS-RS client: the six requests a performer or requester makes of a worklist.

Thin on purpose: DICOM JSON in and out, one method per transaction, no state. Fit for any UPS-RS server, so
it sends what strict servers ask for and accepts what lenient ones answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from ai_apps.performer.connection import Answer, Connection, UnreachableError
from profiles.dicom_json import DicomJson, element
from profiles.uids import is_uid

_JSON = "application/dicom+json"


class UpsRsClient:
    """Requests to the worklist under `base_url`, such as ``https://manager.example/dicom-web``.

    All methods raise :class:`~ai_apps.performer.connection.UnreachableError` if there is no usable answer,
    and :class:`~ai_apps.performer.connection.RejectedError` if the manager refuses.

    References
    ----------
    PS3.18 11.4 to 11.9.
    """

    def __init__(self, base_url: str, connection: Connection) -> None:
        self._workitems = base_url.rstrip("/") + "/workitems"
        self._connection = connection

    def create(self, uid: str, attributes: DicomJson) -> str:
        """Create a workitem in SCHEDULED; the Warning text if the manager changed it (11.4)."""
        return self._send("POST", f"{self._workitems}?{_checked(uid)}", attributes).warning

    def retrieve(self, uid: str) -> DicomJson:
        """The workitem, without its Transaction UID (11.5)."""
        answer = self._connection.request(
            "GET", f"{self._workitems}/{_checked(uid)}", headers={"Accept": _JSON}
        )
        found = _data_sets(answer)
        if len(found) != 1:
            raise UnreachableError("the answer does not hold one workitem")
        return found[0]

    def search(
        self, matching: Mapping[str, str], *, include: Sequence[str] = (), offset: int = 0, limit: int = 0
    ) -> list[DicomJson]:
        """Workitems that match, in the manager's order (11.9).

        Parameters
        ----------
        matching
            Keyword or dotted path (``ScheduledWorkitemCodeSequence.CodeValue``) to the text to match.
        include
            Further attributes to return, or ``all``.
        offset, limit
            Paging; a limit of 0 leaves it to the manager.
        """
        query = [*matching.items(), *(("includefield", name) for name in include)]
        query += [("offset", str(offset))] if offset else []
        query += [("limit", str(limit))] if limit else []
        url = self._workitems + ("?" + urlencode(query, quote_via=quote) if query else "")
        answer = self._connection.request("GET", url, headers={"Accept": _JSON})
        return [] if answer.status == 204 else _data_sets(answer)

    def update(self, uid: str, changes: DicomJson, *, transaction_uid: str = "") -> str:
        """Set attributes; a sequence replaces the whole one (11.6). Returns the Warning text.

        `transaction_uid` stays empty for a workitem in SCHEDULED.
        """
        query = f"?{_checked(transaction_uid)}" if transaction_uid else ""
        return self._send("POST", f"{self._workitems}/{_checked(uid)}{query}", changes).warning

    def change_state(self, uid: str, state: str, *, transaction_uid: str) -> str:
        """Claim (IN PROGRESS) or finish (COMPLETED, CANCELED) (11.7). Returns the Warning text."""
        payload = {**element("TransactionUID", transaction_uid), **element("ProcedureStepState", state)}
        return self._send("PUT", f"{self._workitems}/{_checked(uid)}/state", payload).warning

    def request_cancel(self, uid: str, details: DicomJson | None = None) -> str:
        """Ask for cancellation of somebody's workitem (11.8). Returns the Warning text."""
        return self._send("POST", f"{self._workitems}/{_checked(uid)}/cancelrequest", details or {}).warning

    def _send(self, method: str, url: str, data_set: DicomJson) -> Answer:
        body = json.dumps([dict(sorted(data_set.items()))], ensure_ascii=False).encode()
        return self._connection.request(
            method, url, headers={"Accept": _JSON, "Content-Type": _JSON}, content=body
        )


def _checked(uid: str) -> str:
    """`uid`, safe to be part of a URL.

    Raises
    ------
    ValueError
        If it is no UID.
    """
    if not is_uid(uid):
        raise ValueError("not a UID")
    return uid


def _data_sets(answer: Answer) -> list[DicomJson]:
    content = answer.document()
    found = content if isinstance(content, list) else [content]
    data_sets = [one for one in found if isinstance(one, dict)]
    if len(data_sets) != len(found):
        raise UnreachableError("the answer is not DICOM JSON")
    return data_sets
