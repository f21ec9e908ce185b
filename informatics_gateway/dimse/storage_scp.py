# SPDX-License-Identifier: Apache-2.0
"""The C-STORE SCP: a data set from an association into the intake, its bytes untouched.

What is known of DIMSE stops here; the intake decides, ``statuses.py`` names the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from informatics_gateway.dimse.part10 import file_meta
from informatics_gateway.statuses import STATUSES
from task_manager.actor import Actor
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import InstanceIntake, StagedObject

_LOG = logging.getLogger(__name__)
_SUCCESS = 0x0000
_CANNOT_PROCESS = 0xC211
_MAX_COMMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A C-STORE request as the command set and the presentation context describe it (PS3.7 9.3.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    actor: Actor


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """Status (0000,0900) and, for failures, Error Comment (0000,0902) without patient data."""

    status: int
    comment: str = ""


_STORED = StoreAnswer(_SUCCESS)


class Reception:
    """One object on its way in: written piece by piece, then finished or abandoned.

    Whatever goes wrong is an answer. From then on nothing is kept and the rest of the object only passes by.
    """

    def __init__(self, intake: InstanceIntake, request: StoreRequest) -> None:
        self._intake = intake
        self._request = request
        self._staged: StagedObject | None = None
        self._answer: StoreAnswer | None = None
        self._meta = b""
        try:
            self._staged = intake.stage()
            self._meta = file_meta(
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
                transfer_syntax_uid=request.transfer_syntax_uid,
                source_ae_title=request.actor.name,
            )
        except Exception as error:  # noqa: BLE001 - the DIMSE edge: log once, answer, keep the association
            self._fail(error)

    def write(self, pieces: Sequence[memoryview]) -> None:
        """The next bytes of the data set."""
        if self._answer is None and self._staged is not None:
            try:
                if self._meta:
                    pieces = (memoryview(self._meta), *pieces)
                    self._meta = b""
                self._staged.write_pieces(pieces)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)

    def refuse(self, answer: StoreAnswer) -> None:
        """Answer so, whatever comes."""
        self._answer = self._answer or answer
        self.abandon()

    def abandon(self) -> None:
        """Discard what was written."""
        if self._staged is not None:
            self._staged.discard()
            self._staged = None

    def finish(self) -> StoreAnswer:
        """All is there: bring it into the intake, and return the answer to send.

        References
        ----------
        PS3.4 B.2.3 statuses; PS3.7 9.1.1.
        """
        if self._answer is None and self._staged is not None:
            try:
                if self._meta:  # no data set came: what there is says so
                    self._staged.write(self._meta)
                self._answer = self._receive(self._staged)
                self._staged = None
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
        return self._answer or StoreAnswer(_CANNOT_PROCESS, "processing failure")

    def _receive(self, staged: StagedObject) -> StoreAnswer:
        request = self._request
        outcome = self._intake.receive_instance(
            staged,
            actor=request.actor,
            announced_sop_class_uid=request.sop_class_uid,
            announced_sop_instance_uid=request.sop_instance_uid,
        )
        if isinstance(outcome, Accepted):
            return _STORED
        _LOG.warning(
            "instance refused",
            extra={
                "action": "cstore.refused",
                "peer": request.actor.name,
                "code": str(outcome.code),
                "faults": [str(fault) for fault in outcome.faults],
            },
        )
        return StoreAnswer(STATUSES[outcome.code].dimse, _comment(outcome))

    def _fail(self, error: Exception) -> None:
        peer = self._request.actor.name
        if isinstance(error, StoreError):
            status, comment = STATUSES[RefusalCode.OUT_OF_RESOURCES].dimse, "storage is out of resources"
            # for each of thousands of objects, and onto the same disk
            _LOG.error(
                "store failed", extra={"action": "cstore.store_failed", "peer": peer, **facts_of(error)}
            )
        else:
            status, comment = _CANNOT_PROCESS, "processing failure"
            _LOG.error("C-STORE failed", exc_info=error, extra={"action": "cstore.failed", "peer": peer})
        self.refuse(StoreAnswer(status, comment))


class StorageProvider:
    """Answers C-STORE requests.

    Parameters
    ----------
    intake
        Where instances go.
    """

    def __init__(self, intake: InstanceIntake) -> None:
        self._intake = intake

    def begin(self, request: StoreRequest) -> Reception:
        """The object of `request` comes now."""
        return Reception(self._intake, request)


def _comment(refused: Refused) -> str:
    text = str(refused.faults[0]) if refused.faults else str(refused.code)
    return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")[:_MAX_COMMENT]
