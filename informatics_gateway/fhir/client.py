# SPDX-License-Identifier: Apache-2.0
"""Sends results to a FHIR R4 server: one transaction per stored SR.

Sending is at least once; conditional creates make it once in effect. The size and the time of an answer are
bounded; ``answer.py`` reads it.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from informatics_gateway.fhir.answer import TransactionResult, check_response, json_object, refusal
from informatics_gateway.stored_report import shipped_report
from profiles.faults import Fault
from profiles.fhir.bundle import result_bundle
from profiles.fhir.identifiers import FhirIdentity
from task_manager.errors import ConfigurationError, FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import Receipt, Shipment, Turn, at_once

logger = logging.getLogger(__name__)

Json = dict[str, Any]

_TOKEN = re.compile(r"[!-~]{1,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirEndpoint:
    """A FHIR server and how to talk to it.

    Attributes
    ----------
    base_url
        Service base, ``https://emr.example/fhir``.
    timeout_s
        Limit for connecting and for each read and write; the whole exchange may take four times as long.
    max_response_bytes
        Largest answer read.
    ca_file
        Certificates to trust instead of the system's.
    token_file
        File with a bearer token, read for every request so that it may be renewed in place.
    """

    base_url: str
    timeout_s: float = 30.0
    max_response_bytes: int = 32 * 1024 * 1024
    ca_file: Path | None = None
    token_file: Path | None = None

    def faults(self) -> tuple[Fault, ...]:
        """All that is wrong with the address and its use."""
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            return (Fault("base_url", "is not a URL"),)
        found = []
        if url.scheme not in ("http", "https") or not url.host:
            found.append(Fault("base_url", "must be an http or https URL with a host"))
        if url.userinfo or url.query or url.fragment:
            found.append(Fault("base_url", "must have no user, query or fragment"))
        if self.token_file is not None and url.scheme == "http" and not _is_loopback(url.host):
            found.append(Fault("token_file", "a token is sent over https only"))
        if self.timeout_s <= 0 or self.max_response_bytes <= 0:
            found.append(Fault("timeout_s", "limits must be greater than zero"))
        return tuple(found)


class FhirClient:
    """Posts transactions to one FHIR server.

    Parameters
    ----------
    endpoint
        The server.

    Raises
    ------
    ConfigurationError
        If the endpoint is not safe to use or its certificates cannot be read.
    """

    def __init__(self, endpoint: FhirEndpoint) -> None:
        if faults := endpoint.faults():
            raise ConfigurationError(*faults)
        self._endpoint = endpoint
        self._http = httpx.Client(
            timeout=endpoint.timeout_s,
            verify=_trust(endpoint.ca_file),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close kept connections."""
        self._http.close()

    def transact(self, bundle: Json) -> TransactionResult:
        """Post `bundle` as one transaction and check the outcome of every entry.

        Raises
        ------
        RetryableDeliveryError
            If the server cannot be reached, is busy (408, 409, 423, 425, 429) or fails (5xx).
        FinalDeliveryError
            If it refuses, or answers something that is no transaction response.
        """
        status, headers, body = self._post(orjson.dumps(bundle))
        if not 200 <= status < 300:
            raise refusal(status, headers.get("retry-after", ""), json_object(headers, body))
        answer = json_object(headers, body)
        if answer is None:
            raise FinalDeliveryError(f"HTTP {status}, but the answer is no FHIR JSON")
        return check_response(answer, len(bundle["entry"]))

    def _post(self, content: bytes) -> tuple[int, httpx.Headers, bytes]:
        headers = {
            "Content-Type": "application/fhir+json; charset=utf-8",
            "Accept": "application/fhir+json",
            "Accept-Encoding": "identity",
            "Prefer": "return=minimal",
            **self._authorization(),
        }
        url = self._endpoint.base_url.rstrip("/")
        deadline = time.monotonic() + 4 * self._endpoint.timeout_s
        try:
            with self._http.stream("POST", url, content=content, headers=headers) as response:
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > self._endpoint.max_response_bytes:
                        limit = self._endpoint.max_response_bytes
                        raise FinalDeliveryError(f"HTTP {response.status_code}, answer over {limit} bytes")
                    if time.monotonic() > deadline:
                        raise RetryableDeliveryError("the answer took too long", unreachable=True)
                return response.status_code, response.headers, bytes(body)
        except httpx.RequestError as error:
            raise RetryableDeliveryError(f"no answer: {type(error).__name__}", unreachable=True) from error

    def _authorization(self) -> dict[str, str]:
        if self._endpoint.token_file is None:
            return {}
        try:
            token = self._endpoint.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RetryableDeliveryError("the token file cannot be read") from error
        if _TOKEN.fullmatch(token) is None:
            raise RetryableDeliveryError("the token file holds no token")
        return {"Authorization": f"Bearer {token}"}


class FhirDeliverer:
    """Delivers the root SR of a shipment as FHIR resources (implements ``task_manager.ports.Deliverer``).

    Parameters
    ----------
    endpoint
        The server.
    identity
        Identifier systems and names of the site.
    clock
        Gives the aware time of a receipt.
    """

    def __init__(
        self,
        endpoint: FhirEndpoint,
        identity: FhirIdentity,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = FhirClient(endpoint)
        self._identity = identity
        self._clock = clock

    def close(self) -> None:
        """Close kept connections."""
        self._client.close()

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Send the results the root SR states; sending twice is harmless.

        Raises
        ------
        RetryableDeliveryError
            If later may work.
        FinalDeliveryError
            If it will not work unchanged: no SR in the shipment, an unreadable SR, a refusal.
        """
        bundle = shipment_bundle(shipment, self._identity)
        turn()
        result = self._client.transact(bundle)
        logger.info(
            "results sent as a FHIR transaction",
            extra={
                "action": "fhir.delivered",
                "destination": shipment.destination,
                "workitem_uid": shipment.workitem_uid,
                "resources_created": result.created,
                "resources_found": result.found,
            },
        )
        summary = f"FHIR transaction: {result.created} created, {result.found} already there"
        return Receipt(summary=summary, sent_at=self._clock())


def shipment_bundle(shipment: Shipment, identity: FhirIdentity) -> Json:
    """The transaction Bundle of the last SR of a shipment.

    Raises
    ------
    RetryableDeliveryError
        If its file cannot be read now.
    FinalDeliveryError
        If there is no SR, or it is not one Airway can read.
    """
    content = shipped_report(shipment, identity.time_zone)
    return result_bundle(content, shipment.workitem, settings=identity)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(Fault("ca_file", "cannot be read as PEM certificates")) from error
