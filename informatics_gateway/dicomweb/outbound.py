# SPDX-License-Identifier: Apache-2.0
"""A DICOMweb service that we call: address, trust, credentials, and what its answers mean for a retry.

What is asked of it belongs to the clients beside. Answers are hostile input: bounded, and never believed.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from informatics_gateway.dicomweb.media import DICOM_JSON
from informatics_gateway.retry_after import pause_of
from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from task_manager.delivery.answers import Meaning, of_http_status, tells_absence
from task_manager.errors import ConfigurationError, FinalDeliveryError, RetryableDeliveryError

_TOKEN = re.compile(r"[!-~]{1,8192}")
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_LONGEST_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def data_sets(self) -> list[DicomJson]:
        """The DICOM JSON objects of the body, one or an array of them.

        Raises
        ------
        RetryableDeliveryError
            If the body is something else: some proxy may have answered.
        """
        try:
            parsed: Any = orjson.loads(self.content) if self.content.strip() else []
        except orjson.JSONDecodeError as error:
            raise RetryableDeliveryError("the answer is not DICOM JSON") from error
        found = parsed if isinstance(parsed, list) else [parsed]
        if not all(isinstance(one, dict) for one in found):
            raise RetryableDeliveryError("the answer is not DICOM JSON")
        return found


class DicomWebService:
    """One service and the connections to it; safe to use from many threads.

    Parameters
    ----------
    base_url
        Without ``/studies`` or ``/workitems``.
    token_file
        File with a bearer token, read again for each use so that it may be renewed in place.
    ca_file
        Certificates to trust instead of the system's.
    timeout_s
        For connecting, and how long an answer may be silent.
    longest_s
        How long a whole answer may take.

    Raises
    ------
    ConfigurationError
        If the address is no http(s) address, a token would go over plain HTTP beyond this machine, or the
        certificates cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 60.0,
        longest_s: float = _LONGEST_S,
    ) -> None:
        if faults := _address_faults(base_url, token_file):
            raise ConfigurationError(*faults)
        self.base_url = base_url.rstrip("/")
        self.trust = _trust(ca_file)
        self._token_file = token_file
        self._longest_s = longest_s
        self.client = httpx.Client(
            verify=self.trust, timeout=timeout_s, trust_env=False, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def credentials(self) -> dict[str, str]:
        """The Authorization header, if a token is configured.

        Raises
        ------
        RetryableDeliveryError
            If the token file cannot be read now.
        FinalDeliveryError
            If it holds no bearer token.
        """
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise RetryableDeliveryError("the token file cannot be read") from error
        if not _TOKEN.fullmatch(token):
            raise FinalDeliveryError("the token file holds no bearer token")
        return {"Authorization": f"Bearer {token}"}

    def whole(self, response: httpx.Response) -> Answer:
        """The answer of a response that is still coming, within bounds.

        Raises
        ------
        RetryableDeliveryError
            If it is larger than any answer, or does not end.
        """
        content = _bounded(response, self._longest_s)
        return Answer(status=response.status_code, headers=response.headers, content=content)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        data_set: DicomJson | None = None,
        expected: Iterable[int] = (200,),
    ) -> Answer:
        """The answer to one small request, its status among `expected`.

        Parameters
        ----------
        path
            Under the base, with its leading slash. A query key without a value stands alone (``?1.2.3``).

        Raises
        ------
        RetryableDeliveryError
            No connection, no answer in time, 408, 425, 429, 5xx, or an answer beyond all bounds.
        FinalDeliveryError
            Any other status.
        """
        pairs = [f"{key}={value}" if value else key for key, value in query]
        url = f"{self.base_url}{path}" + (f"?{'&'.join(pairs)}" if pairs else "")
        headers = {"Accept": DICOM_JSON, **self.credentials()}
        body = None
        if data_set is not None:
            headers["Content-Type"] = DICOM_JSON
            body = orjson.dumps([data_set])
        try:
            with self.client.stream(method, url, content=body, headers=headers) as response:
                answer = self.whole(response)
        except httpx.TransportError as error:
            raise RetryableDeliveryError(f"no answer ({type(error).__name__})", unreachable=True) from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise FinalDeliveryError("the request cannot be made, or its answer not be read") from error
        if answer.status in set(expected):
            return answer
        if of_http_status(answer.status) is Meaning.LATER:
            raise later(f"HTTP {answer.status}", answer.status, answer.headers)
        raise FinalDeliveryError(f"HTTP {answer.status}")


def later(message: str, status: int, headers: Mapping[str, str]) -> RetryableDeliveryError:
    """What a transient status becomes, with the pause it asks for."""
    return RetryableDeliveryError(
        message,
        retry_after=pause_of(headers.get("retry-after", ""), datetime.now(UTC)),
        unreachable=tells_absence(status),
    )


def _bounded(response: httpx.Response, longest_s: float) -> bytes:
    content = bytearray()
    until = time.monotonic() + longest_s
    for chunk in response.iter_bytes():
        content += chunk
        if time.monotonic() > until:
            raise RetryableDeliveryError("the answer does not end")
        if len(content) > _MAX_ANSWER_BYTES:
            raise RetryableDeliveryError("the answer is beyond all bounds")
    return bytes(content)


def _address_faults(base_url: str, token_file: Path | None) -> tuple[Fault, ...]:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        return (Fault("url", "is not a URL"),)
    faults = []
    if url.scheme not in ("http", "https") or not url.host:
        faults.append(Fault("url", "must be an http or https URL with a host"))
    if url.userinfo or url.query or url.fragment:
        faults.append(Fault("url", "must have no user, query or fragment"))
    if token_file is not None and url.scheme == "http" and not _is_this_machine(url.host):
        faults.append(Fault("token_file", "a token is sent over https only"))
    return tuple(faults)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(Fault("ca_file", "certificates cannot be read")) from error
