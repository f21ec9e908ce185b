# SPDX-License-Identifier: Apache-2.0
"""How an HTTP peer refused or failed, and the connection they share.

::

    WebError
    ├── UnreachableError   no answer, a broken answer, or 401, 408, 429, 5xx: later may work
    └── RejectedError      the peer understood and refused (4xx): `status`, `warning`, `faults`
        └── MissingError   404, 410

Messages name the host, never a query or a body: those may tell of patients.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from profiles.faults import Fault

_RETRYABLE = frozenset({401, 408, 425, 429})  # 401: a token expired and will be renewed
_BODY_LIMIT = 16 * 1024 * 1024
_FAULT_LIMIT = 50


class WebError(Exception):
    """A peer did not do what was asked."""


_NO_TOKEN = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]")


class UnreachableError(WebError):
    """There was no usable answer; the request may or may not have taken effect."""


class RejectedError(WebError):
    """The peer refused.

    Attributes
    ----------
    status
        HTTP status.
    warning
        Text of the Warning header (PS3.18 8.3.4), empty if there was none.
    faults
        What the peer's body lists as ``faults`` with ``path`` and ``message``.
    """

    def __init__(self, status: int, warning: str = "", faults: tuple[Fault, ...] = ()) -> None:
        self.status = status
        self.warning = warning
        self.faults = faults
        super().__init__(f"refused with HTTP {status}" + (f": {warning}" if warning else ""))


class MissingError(RejectedError):
    """There is no such resource."""


class Answer:
    """A successful answer, read whole."""

    __slots__ = ("content", "headers", "status")

    def __init__(self, status: int, headers: httpx.Headers, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def warning(self) -> str:
        """Text of the Warning header."""
        return str(self.headers.get("warning", ""))

    def document(self) -> object:
        """The body as JSON.

        Raises
        ------
        UnreachableError
            If it is none: the peer is no DICOMweb server, or not well.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise UnreachableError("the answer is not JSON") from error


class Connection:
    """One HTTP client for all peers of a performer.

    Parameters
    ----------
    trusted_origin
        The only origin that is shown the bearer token; addresses in workitems come from others.
    token_file
        File whose content is the bearer token; read at every request, so it can be renewed.
    timeout_s
        Seconds without any byte before a peer counts as unreachable.
    name
        What peers are told we are (User-Agent).
    """

    def __init__(
        self,
        trusted_origin: str,
        *,
        token_file: Path | None = None,
        timeout_s: float = 30.0,
        name: str = "",
    ) -> None:
        self._origin = _origin_of(httpx.URL(trusted_origin))
        self._token_file = token_file
        agent = {"User-Agent": _NO_TOKEN.sub("-", name)} if name else None
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False, headers=agent)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | Iterator[bytes] | None = None,
        expected: frozenset[int] = frozenset({200, 201, 202, 204, 206}),
    ) -> Answer:
        """Send a request and read the whole answer.

        Raises
        ------
        UnreachableError, RejectedError
            If the answer's status is not in `expected`.
        """
        with self.stream(method, url, headers=headers, content=content, expected=expected) as response:
            return Answer(response.status_code, response.headers, _limited(response))

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | Iterator[bytes] | None = None,
        expected: frozenset[int] = frozenset({200}),
    ) -> Iterator[httpx.Response]:
        """The answer as a stream; errors while it is read come as `UnreachableError` too.

        Raises
        ------
        UnreachableError, RejectedError
            As `request`.
        """
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise RejectedError(400, "the address is not a URL") from error
        if target.scheme not in ("http", "https") or not target.host:
            raise RejectedError(400, "the address is not http or https")
        sent = dict(headers or {})
        if self._token_file is not None and _origin_of(target) == self._origin:
            sent["Authorization"] = f"Bearer {self._token()}"
        try:
            with self._client.stream(method, target, headers=sent, content=content) as response:
                if response.status_code not in expected:
                    _raise_for(response)
                yield response
        except httpx.HTTPError as error:
            raise UnreachableError(f"{target.host}: {type(error).__name__}") from error

    def _token(self) -> str:
        assert self._token_file is not None
        try:
            return self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnreachableError("the token file cannot be read") from error


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    if status >= 500 or status in _RETRYABLE or status < 400:
        raise UnreachableError(f"{response.request.url.host}: HTTP {status}")
    kind = MissingError if status in (404, 410) else RejectedError
    raise kind(status, response.headers.get("warning", ""), _faults(_limited(response)))


def _limited(response: httpx.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _BODY_LIMIT:
            raise UnreachableError(f"{response.request.url.host}: the answer is too large")
    return bytes(content)


def _faults(content: bytes) -> tuple[Fault, ...]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ()
    faults = document.get("faults") if isinstance(document, dict) else None
    listed = faults[:_FAULT_LIMIT] if isinstance(faults, list) else []
    return tuple(
        Fault(str(fault.get("path", ""))[:500], str(fault.get("message", ""))[:500])
        for fault in listed
        if isinstance(fault, dict)
    )
