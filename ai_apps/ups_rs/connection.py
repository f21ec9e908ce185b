# SPDX-License-Identifier: Apache-2.0
"""The HTTP client that all requests of a user agent share: limits, token, trust, and what failures mean.

Redirects are not followed: an answer 3xx counts as no answer. Messages name the host, never a query or a
body: those may tell of patients.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ai_apps.ups_rs.errors import RefusedError, UnreachableError, refusal
from profiles.faults import Fault

_RETRYABLE = frozenset({401, 408, 425, 429})  # 401: a token expired and will be renewed
_BODY_LIMIT = 16 * 1024 * 1024
_ANSWER_LIMIT_S = 300.0
_FAULT_LIMIT = 50
_WARNING_LIMIT = 20
_NO_TOKEN = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]")
# "299 agent "text"" of RFC 7234 5.5, and "299 service: text" as PS3.18 8.3.4 prints it.
_QUOTED = re.compile(r'\d{3} \S+ "(.*)"(?: "[^"]*")?')
_PRINTED = re.compile(r"\d{3} \S*: (.*)")


class Answer:
    """A successful answer, read whole."""

    __slots__ = ("content", "headers", "status")

    def __init__(self, status: int, headers: httpx.Headers, content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts of the Warning headers."""
        return warning_texts(self.headers)

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
            raise UnreachableError("the answer is not JSON", status=self.status) from error


class Connection:
    """One HTTP client for all peers of a user agent.

    Parameters
    ----------
    trusted_origin
        The only origin that is shown the bearer token; addresses in workitems come from others.
    token_file
        File whose content is the bearer token; read at every request, so it can be renewed.
    ca_file
        Certificates (PEM) to trust instead of the usual ones.
    timeout_s
        Seconds without any byte before a peer counts as unreachable.
    name
        What peers are told we are (User-Agent).

    Raises
    ------
    ValueError
        If `trusted_origin` is no http or https URL, or `ca_file` holds no certificates.
    """

    def __init__(
        self,
        trusted_origin: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 30.0,
        name: str = "",
    ) -> None:
        self._origin = _origin_of(_parsed(trusted_origin))
        self._token_file = token_file
        self.timeout_s = timeout_s
        self.name = _NO_TOKEN.sub("-", name)
        try:
            self.tls = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context()
        except (OSError, ssl.SSLError) as error:
            raise ValueError("the CA file cannot be used") from error
        self._client = httpx.Client(
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            verify=self.tls,
            headers={"User-Agent": self.name} if name else None,
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def authorization(self, url: httpx.URL) -> dict[str, str]:
        """The header that shows the token to `url`; none for an origin that is not to see it.

        Raises
        ------
        UnreachableError
            If the token file cannot be read.
        """
        if self._token_file is None or _origin_of(url) != self._origin:
            return {}
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnreachableError("the token file cannot be read") from error
        return {"Authorization": f"Bearer {token}"}

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
        UnreachableError, RefusedError
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
        UnreachableError, RefusedError
            As `request`.
        """
        try:
            target = _parsed(url)
        except ValueError as error:
            raise RefusedError(400, told=str(error)) from error
        sent = {**(headers or {}), **self.authorization(target)}
        try:
            with self._client.stream(method, target, headers=sent, content=content) as response:
                if response.status_code not in expected:
                    _raise_for(response)
                yield response
        except httpx.HTTPError as error:
            raise UnreachableError(f"{target.host}: {type(error).__name__}") from error


def warning_texts(headers: httpx.Headers) -> tuple[str, ...]:
    """The texts of all Warning headers, whichever of the two forms they have."""
    found = []
    for header in headers.get_list("warning")[:_WARNING_LIMIT]:
        match = _QUOTED.fullmatch(header) or _PRINTED.fullmatch(header)
        found.append((match[1] if match else header)[:500])
    return tuple(found)


def failure(
    host: str, status: int, headers: httpx.Headers, content: bytes
) -> UnreachableError | RefusedError:
    """What an answer that is none of the expected ones means."""
    if status >= 500 or status in _RETRYABLE or status < 400:
        return UnreachableError(f"{host}: HTTP {status}", status=status)
    return refusal(status, warning_texts(headers), _faults(content))


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError("the address is not a URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("the address is not http or https")
    return parsed


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    scheme = {"ws": "http", "wss": "https"}.get(url.scheme, url.scheme)
    standard = {"http": 80, "https": 443}.get(scheme)
    return scheme, url.host, url.port or standard


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    refused = 400 <= status < 500 and status not in _RETRYABLE
    content = _limited(response) if refused else b""
    raise failure(response.request.url.host, status, response.headers, content)


def _limited(response: httpx.Response) -> bytes:
    content = bytearray()
    ends = time.monotonic() + _ANSWER_LIMIT_S
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > _BODY_LIMIT:
            raise UnreachableError(f"{response.request.url.host}: the answer is too large")
        if time.monotonic() > ends:
            raise UnreachableError(f"{response.request.url.host}: the answer never ends")
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
