# SPDX-License-Identifier: Apache-2.0
"""Where instances go that an archive hands over: through the same intake as all others, if they are wanted.

An archive may send anything: what was not asked of it is refused and counted, never stored.
"""

from __future__ import annotations

import logging

from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.fetching.archives import Piece, Stopping
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import InstanceIntake, StagedObject
from task_manager.study.header import header_from_start, read_header

_LOG = logging.getLogger(__name__)


class PieceReceiver:
    """Implements :class:`task_manager.fetching.archives.Receiver` for one piece.

    Parameters
    ----------
    actor
        As who what comes is marked.
    stopping
        Whether we are to end.

    Attributes
    ----------
    refused
        SOP Instance UIDs of what came and was not taken; empty text for what names none.
    """

    def __init__(self, intake: InstanceIntake, piece: Piece, actor: Actor, stopping: Stopping) -> None:
        self._intake = intake
        self._piece = piece
        self._actor = actor
        self._stopping = stopping
        self.refused: list[str] = []

    def stage(self) -> StagedObject:
        """Where to stream the bytes of one Part 10 file."""
        return self._intake.stage()

    def is_ending(self) -> bool:
        """Whether we are stopping: no more is to be begun."""
        return self._stopping()

    def receive(
        self, staged: StagedObject, *, sop_class_uid: str = "", sop_instance_uid: str = ""
    ) -> Accepted | Refused:
        """Take a staged instance into the store if it is one that is wanted; a refused one is discarded.

        Raises
        ------
        StoreError
            If disk or database failed.
        """
        header = header_from_start(staged.start, staged.size) or read_header(staged.path)
        if isinstance(header, Refused):
            staged.discard()
            return self._refuse("", header)
        wanted = (
            header.study_instance_uid == self._piece.study_instance_uid
            and header.series_instance_uid == self._piece.series_instance_uid
            and header.sop_instance_uid in self._piece.instances
        )
        if not wanted:
            staged.discard()
            fault = Fault("SOPInstanceUID", "names an instance that was not asked for")
            return self._refuse(header.sop_instance_uid, Refused(RefusalCode.SOP_CLASS_MISMATCH, (fault,)))
        outcome = self._intake.receive_instance(
            staged,
            actor=self._actor,
            announced_sop_class_uid=sop_class_uid,
            announced_sop_instance_uid=sop_instance_uid,
            study_instance_uid=self._piece.study_instance_uid,
        )
        return self._refuse(header.sop_instance_uid, outcome) if isinstance(outcome, Refused) else outcome

    def _refuse(self, uid: str, refused: Refused) -> Refused:
        self.refused.append(uid)
        extra = {"action": "fetch.refused", "archive": self._actor.name, "code": refused.code.value}
        _LOG.warning("an archive sent what is not taken", extra=extra)
        return refused
