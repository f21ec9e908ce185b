# SPDX-License-Identifier: Apache-2.0
"""One request at the UPS-RS door and the answer to it, on the ASGI messages themselves.

This is the hot path of every performer's poll and claim: headers are read once, what repeats is remembered,
and no request or response object of the framework is made. Warnings and errors are written here and nowhere
else (PS3.18 8.3.4, 8.6.3).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar, TypeVarTuple, Unpack
from urllib.parse import parse_qsl

import orjson
from fastapi import Response

from informatics_gateway.dicomweb import native_xml
from informatics_gateway.dicomweb.media import (
    DICOM_JSON,
    DICOM_XML,
    JSON,
    MULTIPART,
    MULTIPART_XML,
    metadata_type,
    parse_media_type,
)
from informatics_gateway.dicomweb.ups_payload import (
    parse_data_set,
    parse_multipart_xml,
    parse_xml,
)
from informatics_gateway.statuses import STATUSES, WARNINGS, Operation, refusal_text
from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.multipart import PART_END, closing, part_head
from profiles.ups.dataset import entry
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused

MAX_BODY_BYTES = 8 * 2**20
MAX_QUERY_CHARACTERS = 8192

_INLINE_BYTES = 128 * 1024  # a larger body is parsed beside the event loop
_MOST_PARAMETERS = 200
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii"})
_PRODUCT = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::\d{1,5})?")
_TAKEN = f"{DICOM_JSON}, {JSON}, {MULTIPART_XML}"

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Any]]


class Answer(Response):
    """A response of a body in hand."""

    def __init__(
        self,
        status_code: int,
        body: bytes = b"",
        media_type: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.status_code = status_code
        self.body = body
        self.background = None
        self.raw_headers: Headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]
        if media_type:
            self.raw_headers.append((b"content-type", media_type.encode("latin-1")))
        if status_code != 204:
            self.raw_headers.append((b"content-length", b"%d" % len(body)))

    def add(self, name: bytes, value: str) -> None:
        """Add a header field; a name may stand several times."""
        self.raw_headers.append((name, value.encode("latin-1")))


class AnsweredError(Exception):
    """The request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.status_code)


class BrokenOffError(Exception):
    """The client went away before its request was whole."""


def problem(
    status: int, code: RefusalCode | None, faults: Sequence[Fault], headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """An error answer: the code and every fault with its path."""
    content = {
        "status": status,
        "code": code.value if code is not None else "",
        "faults": [{"path": fault.path, "message": fault.message} for fault in faults],
    }
    return Answer(status, orjson.dumps(content), JSON, headers)


@lru_cache(maxsize=256)
def _origin(scheme: str, host: bytes, root_path: str) -> str:
    """Scheme, host and mount point as the client wrote them; empty if its Host header is no host."""
    return f"{scheme}://{host.decode('ascii')}{root_path}" if _HOST.fullmatch(host) else ""


@lru_cache(maxsize=1024)
def _actor(name: str, agent: bytes, address: str) -> Actor:
    product = None if name else _PRODUCT.match(agent[:64].decode("latin-1"))
    return Actor(door="dicomweb", name=name or (product[0] if product else ""), address=address)


class Exchange:
    """One request on its way through the door."""

    __slots__ = ("_headers", "_receive", "_scope", "operation", "prefix", "public_url")

    def __init__(
        self, scope: Mapping[str, Any], receive: Receive, operation: Operation, prefix: str, public_url: str
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self.operation = operation
        self.prefix = prefix
        self.public_url = public_url

    def header(self, name: bytes) -> str:
        """The last field of a name; empty if there is none."""
        return self._headers.get(name, b"").decode("latin-1")

    @property
    def query(self) -> str:
        """The query string as it came.

        Raises
        ------
        AnsweredError
            If it is too long.
        """
        raw: bytes = self._scope["query_string"]
        if len(raw) > MAX_QUERY_CHARACTERS:
            fault = Fault("", f"takes {MAX_QUERY_CHARACTERS} characters at most")
            raise AnsweredError(problem(414, None, (fault,)))
        return raw.decode("latin-1")

    @property
    def service(self) -> str:
        """The base URL of the service, as the client wrote it or as configured."""
        if self.public_url:
            return self.public_url
        scope = self._scope
        host = self._headers.get(b"host") or b"%s:%d" % (scope["server"][0].encode(), scope["server"][1])
        return _origin(scope["scheme"], host, scope.get("root_path", "")) + self.prefix

    def actor(self, name: str = "") -> Actor:
        """Who asks: the requester of the URL, else the product the User-Agent header names (not proven)."""
        client = self._scope.get("client")
        return _actor(name, self._headers.get(b"user-agent", b""), client[0] if client else "")

    def address(self, uid: str) -> str:
        """URL of a workitem."""
        return f"{self.service}/workitems/{uid}"

    # What is asked for, and what came

    def metadata_type(self) -> str:
        """The media type to answer in.

        Raises
        ------
        AnsweredError
            With 406 if none is acceptable (PS3.18 8.7.5).
        """
        accept = self._headers.get(b"accept", b"")
        if accept:
            accept = b",".join(value for name, value in self._scope["headers"] if name == b"accept")
        query = self.query
        asked: tuple[str, ...] = ()
        if "accept=" in query:
            try:
                pairs = parse_qsl(query, max_num_fields=_MOST_PARAMETERS)
            except ValueError:
                pairs = []
            asked = tuple(value for name, value in pairs if name == "accept")
        found = metadata_type(accept.decode("latin-1"), asked)
        if not found:
            fault = Fault("Accept", f"only {_TAKEN} are served")
            raise AnsweredError(problem(406, None, (fault,)))
        return found

    async def data_set(self, *, may_be_empty: bool = False) -> DicomJson:
        """The data set in the body, in whatever form it came.

        Raises
        ------
        AnsweredError
            With 413 or 415.
        PayloadError
            If it cannot be read.
        BrokenOffError
            If it is not whole.
        """
        body = await self._body()
        if not body:
            return parse_data_set(b"", may_be_empty=may_be_empty)
        content_type = self.header(b"content-type")
        if (
            content_type == DICOM_JSON
            and len(body) < _INLINE_BYTES
            and b"content-encoding" not in self._headers
        ):
            return parse_data_set(body, may_be_empty=may_be_empty)
        return await beside(self._parse, content_type, body, may_be_empty)

    def _parse(self, content_type: str, body: bytes, may_be_empty: bool) -> DicomJson:
        kind = parse_media_type(content_type)
        plain = self.header(b"content-encoding").strip().lower() in ("", "identity")
        if plain and kind.parameter("charset").lower() in _UTF_8:
            if kind.name in (DICOM_JSON, JSON):
                return parse_data_set(body, may_be_empty=may_be_empty)
            if kind.name == DICOM_XML:
                return parse_xml(body)
            if kind.name == MULTIPART and kind.parameter("type").lower() in (DICOM_XML, ""):
                return parse_multipart_xml(body, kind.parameter("boundary"))
        fault = Fault("Content-Type", f"needs one of {_TAKEN}; UTF-8, not compressed")
        raise AnsweredError(problem(415, None, (fault,), [("Accept-Post", _TAKEN)]))

    async def _body(self) -> bytes:
        declared = self._headers.get(b"content-length", b"0")
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise BrokenOffError
        body: bytes = message.get("body", b"")
        if message.get("more_body") or len(body) > MAX_BODY_BYTES:
            received = bytearray(body)
            if declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
                raise AnsweredError(_too_large())
            while message.get("more_body"):
                if len(received) > MAX_BODY_BYTES:
                    raise AnsweredError(_too_large())
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise BrokenOffError
                received += message.get("body", b"")
            if len(received) > MAX_BODY_BYTES:
                raise AnsweredError(_too_large())
            body = bytes(received)
        return body

    # Answers

    def warn(self, answer: Answer, texts: Sequence[str]) -> Answer:
        """Add Warning headers in the form PS3.18 8.3.4 prints."""
        for text in texts:
            if text:
                answer.add(b"warning", f"299 {self.service}: {text}")
        return answer

    def accepted(self, outcome: Accepted, status: int, headers: Sequence[tuple[str, str]] = ()) -> Answer:
        """The answer of a command that took effect."""
        answer = Answer(status, headers=headers)
        if outcome.warnings:
            self.warn(answer, [WARNINGS[warning].http_text(self.operation) for warning in outcome.warnings])
        return answer

    def refused(self, refusal: Refused, transaction_uid: str = "") -> Answer:
        """The answer of a command that took none."""
        answer = problem(STATUSES[refusal.code].http_status(self.operation), refusal.code, refusal.faults)
        text = refusal_text(refusal.code, self.operation, transaction_uid=transaction_uid)
        return self.warn(answer, [text])

    async def data_sets(
        self, found: Sequence[bytes], media_type: str, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """The answer of data sets in hand as JSON text: an array, or one XML part for each."""
        if media_type == MULTIPART_XML:
            body, content_type = await beside(_xml_parts, found)
            return Answer(200, body, content_type, headers)
        if len(found) == 1:
            body = b"[%s]" % found[0]
        else:  # joined once: results are large
            body = b",".join((b"[" + found[0], *found[1:-1], found[-1] + b"]"))
        return Answer(200, body, media_type, headers)


def _too_large() -> Answer:
    return problem(413, None, (Fault("", f"takes {MAX_BODY_BYTES} bytes at most"),))


def _keyword(tag: str) -> str:
    return entry(tag).keyword


def _xml_parts(found: Sequence[bytes]) -> tuple[bytes, str]:
    """A multipart body and its Content-Type."""
    documents = [native_xml.write(orjson.loads(text), _keyword) for text in found]
    number, whole = 0, b"".join(documents)
    while (boundary := f"airway-part-{number}").encode() in whole:
        number += 1
    body = b"".join(part_head(boundary, DICOM_XML) + document + PART_END for document in documents)
    return body + closing(boundary), f"{MULTIPART_XML}; boundary={boundary}"


async def beside(work: Callable[[Unpack[_Ts]], _T], *arguments: *_Ts) -> _T:
    """What `work` returns, from a thread beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
