# SPDX-License-Identifier: Apache-2.0
"""Webhooks: results and events as signed JSON by HTTP POST.

Sending is at least once; the same message always has the same id. What an answer means for another try is
decided here: nothing of its body is used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from informatics_gateway.events.http_post import Target, post, url_faults
from informatics_gateway.events.webhook_message import (
    Addresses,
    Message,
    WebhookEvent,
    event_message,
    read_secrets,
    result_message,
    signed_headers,
    told_event,
)
from informatics_gateway.retry_after import pause_of
from profiles.faults import Fault
from profiles.sole.events import OperationalEvent
from task_manager.errors import (
    ConfigurationError,
    DeliveryError,
    FinalDeliveryError,
    RetryableDeliveryError,
)
from task_manager.ports import Receipt, Shipment, Turn, at_once

logger = logging.getLogger(__name__)

_TRANSIENT = frozenset({408, 425, 429})
_MOST_SECRET_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where the keys are: a file, read for each sending so that it may be renewed in place, or a variable."""

    file: Path | None = None
    variable: str = ""

    def keys(self) -> tuple[bytes, ...]:
        """The keys, the one that signs first and those to come after it.

        Raises
        ------
        ValueError
            If they cannot be read, or are none.
        """
        if self.file is None:
            if self.variable not in os.environ:
                raise ValueError(f"{self.variable} is not set")
            return read_secrets(os.environ[self.variable])
        try:
            with self.file.open("rb") as content:
                return read_secrets(content.read(_MOST_SECRET_BYTES).decode("utf-8"))
        except OSError as error:
            raise ValueError(f"cannot be read ({type(error).__name__})") from error
        except UnicodeDecodeError as error:
            raise ValueError("is no text") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook.

    Attributes
    ----------
    name
        Of the destination.
    patient
        Whether it is told who the patient is.
    events
        What it is told of beside results.
    """

    name: str
    target: Target
    secret: Secret
    patient: bool = False
    events: frozenset[WebhookEvent] = frozenset()


class WebhookDeliverer:
    """Tells a webhook of results (``task_manager.ports.Deliverer``) and events (``EventSink``).

    Parameters
    ----------
    http_address
        Gives the address of our own HTTP door; asked when a message is made.
    clock
        Gives the aware time of a sending.

    Raises
    ------
    ConfigurationError
        If the address cannot be used or the keys cannot be read.
    """

    def __init__(
        self,
        webhook: Webhook,
        *,
        http_address: Callable[[], str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        faults = list(url_faults(webhook.target.url))
        try:
            webhook.secret.keys()
        except ValueError as error:
            faults.append(Fault("secret_file" if webhook.secret.file else "secret_variable", str(error)))
        if faults:
            raise ConfigurationError(*faults)
        self._webhook = webhook
        self._http_address = http_address
        self._clock = clock

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Tell that the result of a workitem is there; telling twice is harmless.

        Raises
        ------
        RetryableDeliveryError
            If no answer came, or one that passes: 408, 425, 429, 5xx.
        FinalDeliveryError
            If any other answer than 2xx came, or the address leads where it may not go.
        """
        message = result_message(shipment, addresses=self._addresses(), patient=self._webhook.patient)
        turn()
        status = self._post(message)
        return Receipt(summary=f"{message.event.value}: HTTP {status}", sent_at=self._clock())

    def send_all(self, events: Sequence[OperationalEvent]) -> int:
        """Tell events in order, passing over those it is not told of; how many were done with.

        Raises
        ------
        RetryableDeliveryError, FinalDeliveryError
            As :meth:`deliver`, for the very first.
        """
        webhook = self._webhook
        for done, event in enumerate(events):
            name = told_event(event)
            if name is None or name not in webhook.events or event.destination == webhook.name:
                continue
            message = event_message(
                event,
                name,
                destination=webhook.name,
                addresses=self._addresses(),
                patient=webhook.patient,
            )
            try:
                self._post(message)
            except DeliveryError:
                if not done:
                    raise
                return done
        return len(events)

    def _addresses(self) -> Addresses:
        return Addresses(http=self._http_address().rstrip("/"))

    def _post(self, message: Message) -> int:
        now = self._clock()
        try:
            keys = self._webhook.secret.keys()
        except ValueError as error:
            raise RetryableDeliveryError(f"the secret {error}") from error
        answer = post(self._webhook.target, message.body, signed_headers(message, keys, now))
        told = f"HTTP {answer.status}"
        if 200 <= answer.status < 300:
            facts = {"action": "webhook.told", "destination": self._webhook.name}
            logger.info(
                "webhook told", extra={**facts, "message_id": message.id, "event": message.event.value}
            )
            return answer.status
        if answer.status >= 500 or answer.status in _TRANSIENT:
            raise RetryableDeliveryError(told, retry_after=pause_of(answer.retry_after, now))
        if 300 <= answer.status < 400:
            told += ", redirects are not followed"
        raise FinalDeliveryError(told)
