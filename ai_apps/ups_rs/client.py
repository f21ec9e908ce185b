# SPDX-License-Identifier: Apache-2.0
"""A UPS-RS user agent: one method per transaction of PS3.18 chapter 11, DICOM JSON in and out.

It keeps no state about workitems. It sends what strict servers ask for and accepts what lenient ones answer:
arrays and bare objects, 200 and 204 and 206 for searches, addresses of channels in either header.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlencode

from ai_apps.ups_rs.connection import Answer, Connection
from ai_apps.ups_rs.errors import NotFoundError, UnreachableError
from ai_apps.ups_rs.events import Resync
from ai_apps.ups_rs.stream import EventStream
from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, merged, text
from profiles.uids import is_uid
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID

_JSON = "application/dicom+json"
_CAPABILITIES = "application/json, application/vnd.sun.wadl+xml;q=0.9"
_PAGE = 100
_MORE = "additional results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A workitem that was created.

    Attributes
    ----------
    uid
        Its UID: the one asked for, or the one the server chose.
    warnings
        Texts of Warning headers, as when the server changed something.
    """

    uid: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a search: its results, and whether the server said that more match."""

    results: tuple[DicomJson, ...]
    more: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription that exists now.

    Attributes
    ----------
    target
        UID subscribed to.
    channel_url
        Where the server says its event channel is; empty if it does not say.
    warnings
        Texts of Warning headers: a deletion lock may have been refused.
    """

    target: str
    channel_url: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a service says of itself (PS3.18 8.9): JSON or WADL, as it came."""

    media_type: str
    content: bytes


class UpsRsClient:
    """Requests to the worklist under `base_url`, such as ``https://manager.example/dicom-web``.

    A context manager. All requests raise :class:`~ai_apps.ups_rs.errors.UnreachableError` if there is no
    usable answer, :class:`~ai_apps.ups_rs.errors.RefusedError` or one of its kinds if the server refuses, and
    ``ValueError`` for a UID or an AE title that is none. Safe to use from several threads.

    Parameters
    ----------
    base_url
        Service root: the part before ``/workitems``.
    connection
        Shared with other requests; it stays open when the client is closed. Without one the client makes its
        own from the rest.
    token_file, ca_file, timeout_s, name
        As of :class:`~ai_apps.ups_rs.connection.Connection`.

    Examples
    --------
    >>> with UpsRsClient("http://127.0.0.1:8080/dicom-web", name="MY_AE") as client:  # doctest: +SKIP
    ...     for workitem in client.search_all({"ProcedureStepState": "SCHEDULED"}):
    ...         uid = workitem["00080018"]["Value"][0]

    References
    ----------
    PS3.18 11.4 to 11.13.
    """

    def __init__(
        self,
        base_url: str,
        connection: Connection | None = None,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 30.0,
        name: str = "",
    ) -> None:
        self._own = connection is None
        self._connection = connection or Connection(
            base_url, token_file=token_file, ca_file=ca_file, timeout_s=timeout_s, name=name
        )
        self.base_url = base_url.rstrip("/")
        self._workitems = self.base_url + "/workitems"

    def __enter__(self) -> UpsRsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that this client made."""
        if self._own:
            self._connection.close()

    def create(self, attributes: DicomJson, *, uid: str = "") -> Created:
        """Create a workitem in SCHEDULED (11.4).

        `uid` is asked for in the query, as strict servers want it; without it the one in the data set counts,
        or the server chooses.
        """
        query = f"?{_checked(uid)}" if uid else ""
        answer = self._send("POST", f"{self._workitems}{query}", attributes)
        location = answer.headers.get("location", "") or answer.headers.get("content-location", "")
        named = location.rstrip("/").rpartition("/")[2]
        made = named if is_uid(named) else uid or text(attributes, "SOPInstanceUID")
        if not made:
            raise UnreachableError("the answer does not name the workitem", status=answer.status)
        return Created(uid=made, warnings=answer.warnings)

    def retrieve(self, uid: str) -> DicomJson:
        """The workitem, without its Transaction UID (11.5)."""
        answer = self._get(f"{self._workitems}/{_checked(uid)}")
        found = _data_sets(answer)
        if len(found) != 1:
            raise UnreachableError("the answer does not hold one workitem", status=answer.status)
        return found[0]

    def search(
        self, matching: Mapping[str, str], *, include: Sequence[str] = (), offset: int = 0, limit: int = 0
    ) -> Page:
        """One page of the workitems that match, in the server's order (11.9).

        Parameters
        ----------
        matching
            Keyword or dotted path (``ScheduledWorkitemCodeSequence.CodeValue``) to the text to match.
        include
            Further attributes to return, or ``all``.
        offset, limit
            Paging; a limit of 0 leaves it to the server.
        """
        query = [*matching.items(), *(("includefield", name) for name in include)]
        query += [("offset", str(offset))] if offset else []
        query += [("limit", str(limit))] if limit else []
        answer = self._get(self._workitems + ("?" + urlencode(query, quote_via=quote) if query else ""))
        results = () if answer.status == 204 or not answer.content.strip() else tuple(_data_sets(answer))
        warnings = answer.warnings
        more = answer.status == 206 or any(_MORE in warning for warning in warnings)
        return Page(results=results, more=more, warnings=warnings)

    def search_all(
        self, matching: Mapping[str, str], *, include: Sequence[str] = (), page: int = _PAGE
    ) -> Iterator[DicomJson]:
        """All workitems that match, page by page; what changes meanwhile may be missed or seen late.

        Each workitem comes once. Ends too if the server ignores paging and repeats itself.
        """
        seen: set[str] = set()
        offset = 0
        while True:
            found = self.search(matching, include=include, offset=offset, limit=page)
            fresh = [one for one in found.results if text(one, "SOPInstanceUID") not in seen]
            yield from fresh
            seen.update(text(one, "SOPInstanceUID") for one in fresh)
            offset += len(found.results)
            if not fresh or not (found.more or len(found.results) >= page):
                return

    def update(self, uid: str, changes: DicomJson, *, transaction_uid: str = "") -> tuple[str, ...]:
        """Set attributes; a sequence replaces the whole one (11.6). Returns the Warning texts.

        `transaction_uid` stays empty for a workitem in SCHEDULED.
        """
        query = f"?{_checked(transaction_uid)}" if transaction_uid else ""
        return self._send("POST", f"{self._workitems}/{_checked(uid)}{query}", changes).warnings

    def change_state(self, uid: str, state: str, *, transaction_uid: str) -> tuple[str, ...]:
        """Claim (IN PROGRESS) or finish (COMPLETED, CANCELED) (11.7). Returns the Warning texts."""
        payload = {**element("TransactionUID", transaction_uid), **element("ProcedureStepState", state)}
        return self._send("PUT", f"{self._workitems}/{_checked(uid)}/state", payload).warnings

    def claim(self, uid: str) -> str:
        """Claim with a fresh Transaction UID and return it: all that follows needs it (11.7)."""
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        self.change_state(uid, "IN PROGRESS", transaction_uid=transaction_uid)
        return transaction_uid

    def request_cancel(self, uid: str, details: DicomJson | None = None) -> tuple[str, ...]:
        """Ask for cancellation of somebody's workitem (11.8). Returns the Warning texts.

        `details` as :func:`cancel_details` makes them.
        """
        return self._send("POST", f"{self._workitems}/{_checked(uid)}/cancelrequest", details or {}).warnings

    def subscribe(
        self,
        receiving_ae: str,
        target: str = GLOBAL_SUBSCRIPTION_UID,
        *,
        lock: bool = False,
        matching: Mapping[str, str] | None = None,
    ) -> Subscription:
        """Subscribe an AE to a workitem, to all, or to those that match (11.10).

        Parameters
        ----------
        target
            A workitem UID, or the well-known UID of all workitems. With `matching` always the filtered one.
        lock
            Whether final workitems are to be kept until the AE unsubscribes.
        matching
            Keys of a filtered subscription, as in `search`.
        """
        query = [("deletionlock", "true")] if lock else []
        if matching:
            target = FILTERED_GLOBAL_SUBSCRIPTION_UID
            query.append(("filter", ",".join(f"{name}={value}" for name, value in matching.items())))
        url = self._subscriber(target, receiving_ae)
        answer = self._connection.request(
            "POST",
            url + ("?" + urlencode(query, quote_via=quote) if query else ""),
            headers={"Accept": _JSON},
        )
        announced = answer.headers.get("content-location", "") or answer.headers.get("location", "")
        return Subscription(target=target, channel_url=announced, warnings=answer.warnings)

    def unsubscribe(self, receiving_ae: str, target: str = GLOBAL_SUBSCRIPTION_UID) -> tuple[str, ...]:
        """Unsubscribe an AE; from all workitems, by the global UID (11.11). Returns the Warning texts."""
        return self._connection.request("DELETE", self._subscriber(target, receiving_ae)).warnings

    def suspend(self, receiving_ae: str, target: str = GLOBAL_SUBSCRIPTION_UID) -> tuple[str, ...]:
        """No longer subscribe an AE to new workitems (11.12). Returns the Warning texts."""
        return self._connection.request("POST", self._subscriber(target, receiving_ae) + "/suspend").warnings

    def capabilities(self) -> Capabilities:
        """What the service says it can do (8.9)."""
        answer = self._options("/")
        media_type = str(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()
        return Capabilities(media_type=media_type, content=answer.content)

    def events(
        self,
        receiving_ae: str,
        *,
        targets: Sequence[str] = (GLOBAL_SUBSCRIPTION_UID,),
        matching: Mapping[str, str] | None = None,
        lock: bool = False,
        resync: Resync | None = None,
        stop: threading.Event | None = None,
        channel_url: str = "",
    ) -> EventStream:
        """The events of an AE as they come, opened again whenever the connection is lost (11.13, 8.10).

        Parameters
        ----------
        receiving_ae
            AE title that is subscribed, and whose channel is opened.
        targets
            What to subscribe the AE to on each opening: workitem UIDs or well-known ones; none if somebody
            else sees to that.
        matching
            Keys of a filtered subscription, made instead of a global one.
        lock
            Whether to ask for deletion locks.
        resync
            What to look at after each opening, so that nothing is missed; the default follows `targets`.
        stop
            Ends the stream when set.
        channel_url
            Where the channel is, if it is at none of the usual places.
        """
        _checked_ae(receiving_ae)
        return EventStream(
            self,
            self._connection,
            receiving_ae,
            targets=tuple(targets),
            matching=matching,
            lock=lock,
            resync=resync,
            stop=stop,
            channel_url=channel_url,
        )

    def _options(self, slash: str) -> Answer:
        try:
            url = self.base_url + slash
            return self._connection.request("OPTIONS", url, headers={"Accept": _CAPABILITIES})
        except (NotFoundError, UnreachableError) as error:
            if not slash or not 300 <= error.status < 500:
                raise
            return self._options("")

    def _subscriber(self, target: str, receiving_ae: str) -> str:
        return f"{self._workitems}/{_checked(target)}/subscribers/{_checked_ae(receiving_ae)}"

    def _get(self, url: str) -> Answer:
        return self._connection.request("GET", url, headers={"Accept": _JSON})

    def _send(self, method: str, url: str, data_set: DicomJson) -> Answer:
        body = json.dumps([dict(sorted(data_set.items()))], ensure_ascii=False).encode()
        return self._connection.request(
            method, url, headers={"Accept": _JSON, "Content-Type": _JSON}, content=body
        )


def cancel_details(
    *, reason: str = "", code: Code | None = None, contact_uri: str = "", contact_name: str = ""
) -> DicomJson:
    """The data set of a cancel request: why, and whom to ask (PS3.4 table CC.2.2-1)."""
    parts = []
    if reason:
        parts.append(element("ReasonForCancellation", reason))
    if code is not None:
        parts.append(element("ProcedureStepDiscontinuationReasonCodeSequence", code.to_json()))
    if contact_uri:
        parts.append(element("ContactURI", contact_uri))
    if contact_name:
        parts.append(element("ContactDisplayName", contact_name))
    return merged(parts)


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


def _checked_ae(title: str) -> str:
    """An AE title (PS3.5 6.2), percent-encoded as one segment of a path.

    Raises
    ------
    ValueError
        If it is none.
    """
    stripped = title.strip(" ")
    fits = 0 < len(stripped) <= 16 and all(32 <= ord(letter) < 127 and letter != "\\" for letter in stripped)
    if not fits or stripped in (".", ".."):
        raise ValueError("not an AE title")
    return quote(stripped, safe="")


def _data_sets(answer: Answer) -> list[DicomJson]:
    content = answer.document()
    found = content if isinstance(content, list) else [content]
    data_sets = [one for one in found if isinstance(one, dict)]
    if len(data_sets) != len(found):
        raise UnreachableError("the answer is not DICOM JSON", status=answer.status)
    return data_sets
