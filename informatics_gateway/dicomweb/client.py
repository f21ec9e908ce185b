# SPDX-License-Identifier: Apache-2.0
"""STOW-RS towards other archives: a shipment as one request per instance, streamed from disk.

One instance a request keeps the order (root SR last) and makes a refusal name its instance. What a failure
means for a retry is decided here; when to retry is the worker's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import httpx
import orjson

from informatics_gateway.dicomweb.media import DICOM, DICOM_JSON, MULTIPART
from informatics_gateway.dicomweb.outbound import Answer, DicomWebService, later
from profiles.dicom_json import first, items
from profiles.multipart import PART_END, closing, part_head
from task_manager.delivery.answers import Meaning, of_http_status, of_store_status
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import Receipt, Shipment, Turn, at_once
from task_manager.study.model import Instance

_CHUNK_BYTES = 1024 * 1024
_MAX_ANSWER_BYTES = 16 * 1024 * 1024


class DicomWebDeliverer:
    """Delivers shipments by STOW-RS; see :class:`task_manager.ports.Deliverer`.

    Parameters
    ----------
    base_url
        Of the DICOMweb service, without ``/studies``.
    token_file
        File with a bearer token, read for each shipment so that it may be renewed in place.
    ca_file
        Certificates to trust instead of the system's.
    timeout_s
        For connecting and for each answer.

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
    ) -> None:
        self._service = DicomWebService(base_url, token_file=token_file, ca_file=ca_file, timeout_s=timeout_s)
        self._studies_url = f"{self._service.base_url}/studies"

    def __enter__(self) -> DicomWebDeliverer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Store every instance in the order of the shipment; stop at the first that is not stored.

        An instance that the archive says it has already counts as stored.

        Raises
        ------
        RetryableDeliveryError
            No connection, no answer in time, 408, 425, 429, 5xx, failure reason A7xx or 0110.
        FinalDeliveryError
            Any other refusal.
        """
        credentials = self._service.credentials()
        for number, (instance, path) in enumerate(zip(shipment.instances, shipment.paths, strict=True)):
            turn()
            self._store(instance, path, credentials, f"{number} of {len(shipment.instances)} stored")
        return Receipt(
            summary=f"{len(shipment.instances)} instances stored by STOW-RS", sent_at=datetime.now(UTC)
        )

    def _store(self, instance: Instance, path: Path, credentials: dict[str, str], progress: str) -> None:
        boundary = uuid4().hex
        # no transfer-syntax parameter: Orthanc 1.10 ignores a part that has one, and answers 200
        head = part_head(boundary, DICOM)
        tail = PART_END + closing(boundary)
        try:
            size = path.stat().st_size
            request = self._service.client.stream(
                "POST",
                self._studies_url,
                content=_body(head, path, tail),
                headers={
                    "Content-Type": f'{MULTIPART}; type="{DICOM}"; boundary={boundary}',
                    "Content-Length": str(len(head) + size + len(tail)),
                    "Accept": DICOM_JSON,
                    **credentials,
                },
            )
            with request as response:
                answer = self._service.whole(response)
        except httpx.TransportError as error:
            raise RetryableDeliveryError(
                f"{progress}; no answer ({type(error).__name__})", unreachable=True
            ) from error
        except (httpx.InvalidURL, httpx.DecodingError, OSError) as error:
            told = "the request cannot be made, or its answer not be read"
            raise FinalDeliveryError(f"{progress}; {told}") from error
        _judge(answer, instance.sop_instance_uid, progress)


def _judge(answer: Answer, sop_instance_uid: str, progress: str) -> None:
    """Return if the archive says that it has the instance (PS3.18 10.5.3)."""
    status = answer.status
    if of_http_status(status) is Meaning.LATER:
        raise later(f"{progress}; the archive answered HTTP {status}", status, answer.headers)
    if status not in (200, 202, 409):
        raise FinalDeliveryError(f"{progress}; the archive answered HTTP {status}")
    reasons = _failure_reasons(answer.content)
    failures = [reason for reason in reasons if of_store_status(reason) in (Meaning.LATER, Meaning.NEVER)]
    if failures:
        names = ", ".join(f"{reason:04X}" for reason in failures)
        if all(of_store_status(reason) is Meaning.LATER for reason in failures):
            raise RetryableDeliveryError(f"{progress}; the archive cannot store now: {names}")
        raise FinalDeliveryError(f"{progress}; the archive refused: {names}")
    # the UID stands in an answer of any form, DICOM JSON or XML; an archive that found no part names none
    if not reasons and (status == 409 or sop_instance_uid.encode() not in answer.content):
        raise FinalDeliveryError(f"{progress}; HTTP {status} that does not confirm the instance")


def _body(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    yield tail


def _failure_reasons(content: bytes) -> list[int]:
    """The failure reasons of a Store Instances Response in DICOM JSON; none of any other answer."""
    if len(content) > _MAX_ANSWER_BYTES:
        return []
    try:
        parsed: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return []
    if isinstance(parsed, list):
        parsed = parsed[0] if len(parsed) == 1 else None
    if not isinstance(parsed, dict):
        return []
    failed = items(parsed, "FailedSOPSequence") + items(parsed, "OtherFailuresSequence")
    return [_reason(first(item, "FailureReason")) for item in failed]


def _reason(value: Any) -> int:
    return value if isinstance(value, int) else 0xC000
