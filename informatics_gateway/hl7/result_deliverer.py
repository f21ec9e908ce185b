# SPDX-License-Identifier: Apache-2.0
"""Sends results to a RIS as ORU^R01 over MLLP: one message per stored SR, one connection per message.

Sending is at least once: the same result has the same control id and the same bytes, so a receiver that
knows it already says so again. ``profiles/hl7/answer.py`` reads what it says; free text of it is never kept.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from informatics_gateway.hl7.sender import send_message
from informatics_gateway.stored_report import shipped_report
from profiles.air.items import moment
from profiles.dicom_json import items, text
from profiles.hl7.answer import Answer, AnswerCode, read_answer
from profiles.hl7.message import ErrorCode
from profiles.hl7.result import ResultMessage, failure_message, result_message
from profiles.hl7.result_options import Acknowledgement, ResultOptions
from task_manager.errors import FinalDeliveryError, InputError, RetryableDeliveryError
from task_manager.ports import Receipt, Shipment, Turn, at_once

logger = logging.getLogger(__name__)

_PASSING = frozenset({ErrorCode.RECORD_LOCKED, ErrorCode.APPLICATION})
"""Errors that are the receiver's own and pass: it has nothing against the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpAddress:
    """A receiver; `tls` None takes plain TCP, an empty `server_name` is `host`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    timeout_s: float = 60.0


class Hl7Deliverer:
    """Delivers the root SR of a shipment as ORU^R01 (implements ``task_manager.ports.Deliverer``).

    Parameters
    ----------
    failed_runs
        Whether the receiver is told of runs that brought no result; without, nothing is sent of them.
    clock
        Gives the aware time of a receipt.
    """

    def __init__(
        self,
        address: MllpAddress,
        options: ResultOptions,
        *,
        failed_runs: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._address = address
        self._options = options
        self._failed_runs = failed_runs
        self._clock = clock

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Send the results the root SR states; sending twice is harmless.

        Nothing is sent of results that others have taken the place of: a receiver keeps what comes last.

        Raises
        ------
        RetryableDeliveryError
            If no answer came, or the receiver said that it is in trouble itself (207) or the record locked
            (206).
        FinalDeliveryError
            If it refused the message, or the result cannot be told: no SR, an unreadable one, characters that
            the destination's set lacks.
        """
        if shipment.is_superseded:
            told = "not sent: other results took its place"
            return Receipt(summary=told, sent_at=self._clock(), sent=False)
        return self._send(shipment, shipment_message(shipment, self._options), turn)

    def deliver_failure(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Send that a run brought no result, if the receiver wants to be told; raises as :meth:`deliver`."""
        if not self._failed_runs:
            return Receipt(summary="failed runs are not told here", sent_at=self._clock(), sent=False)
        message = failure_shipment_message(shipment, self._options, now=self._clock())
        return self._send(shipment, message, turn)

    def _send(self, shipment: Shipment, message: ResultMessage, turn: Turn) -> Receipt:
        turn()
        answer = self._exchange(message)
        if not answer.accepted:
            raise refusal(answer)
        logger.info(
            "results sent as ORU^R01",
            extra={
                "action": "hl7.delivered",
                "destination": shipment.destination,
                "workitem_uid": shipment.workitem_uid,
                "control_id": message.control_id,
                "acknowledgement": answer.code.value,
            },
        )
        summary = f"ORU^R01 {message.control_id}, status {message.status}: {answer.code.value}"
        return Receipt(summary=summary, sent_at=self._clock())

    def _exchange(self, message: ResultMessage) -> Answer:
        address = self._address
        try:
            raw = send_message(
                address.host,
                address.port,
                message.raw,
                address.timeout_s,
                tls=address.tls,
                server_name=address.server_name,
                awaited=lambda raw: self._is_awaited(raw, message.control_id),
            )
        except InputError as error:
            raise FinalDeliveryError("the message holds a framing byte of MLLP") from error
        answer = read_answer(raw)
        if answer is None:
            raise RetryableDeliveryError("the answer is no HL7 acknowledgement")
        return answer

    def _is_awaited(self, raw: bytes, control_id: str) -> bool:
        """Whether an answer ends the exchange: not one to another message, nor one of a level not asked for.

        An answer without MSA-2 is taken for ours: the connection carried nothing else.
        """
        answer = read_answer(raw)
        if answer is None:
            return True
        if answer.control_id not in ("", control_id):
            return False
        early = answer.code is AnswerCode.COMMIT_ACCEPT
        return not (early and self._options.acknowledgement is Acknowledgement.APPLICATION)


def shipment_message(shipment: Shipment, options: ResultOptions) -> ResultMessage:
    """The message of the last SR of a shipment.

    Raises
    ------
    RetryableDeliveryError
        If its file cannot be read now.
    FinalDeliveryError
        If there is no SR, it is not one Airway can read, or the character set lacks a character of it.
    """
    content = shipped_report(shipment, options.time_zone)
    try:
        return result_message(
            content, shipment.workitem, options, key=_key(shipment), replaces=bool(shipment.supersedes)
        )
    except UnicodeEncodeError as error:
        raise _unwritable(options) from error


def failure_shipment_message(shipment: Shipment, options: ResultOptions, *, now: datetime) -> ResultMessage:
    """The message that the workitem of a shipment was canceled after it had begun.

    Parameters
    ----------
    now
        Time of the message where the workitem does not tell when it was canceled.

    Raises
    ------
    FinalDeliveryError
        If the character set lacks a character of it.
    """
    reason, canceled_at = "", None
    for progress in items(shipment.workitem, "ProcedureStepProgressInformationSequence"):
        canceled_at = moment(text(progress, "ProcedureStepCancellationDateTime"), UTC) or canceled_at
        for code in items(progress, "ProcedureStepDiscontinuationReasonCodeSequence"):
            reason = reason or text(code, "CodeMeaning")
    try:
        return failure_message(
            shipment.workitem,
            options,
            key=_key(shipment),
            reason=reason or "The run was canceled.",
            failed_at=canceled_at or now,
        )
    except UnicodeEncodeError as error:
        raise _unwritable(options) from error


def _key(shipment: Shipment) -> str:
    return f"{shipment.destination}:{shipment.workitem_uid}"


def _unwritable(options: ResultOptions) -> FinalDeliveryError:
    return FinalDeliveryError(f"the character set {options.character_set} lacks a character of the result")


def refusal(answer: Answer) -> RetryableDeliveryError | FinalDeliveryError:
    """What a refusal means: errors of the receiver's own pass, all others stay."""
    told = f"the receiver answered {answer}"
    if answer.errors and all(error.code in _PASSING for error in answer.errors):
        return RetryableDeliveryError(told)
    return FinalDeliveryError(told)
