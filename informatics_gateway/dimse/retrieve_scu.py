# SPDX-License-Identifier: Apache-2.0
"""Has an archive send instances to us: C-MOVE to our own port, or C-GET (PS3.4 C.4.2, C.4.3).

The destination of a move is always our own AE title: nobody can make us have images sent elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import islice
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext

from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.sub_operations import SubOperations
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from task_manager.actor import Actor
from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError
from task_manager.fetching.archives import Piece, Receiver

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

_PENDING = frozenset((0xFF00, 0xFF01))
_PARTLY = 0xB000
_UNKNOWN_DESTINATION = 0xA801
_FOR_GOOD = frozenset((0x0122, 0x0124, 0xA801, 0xA900))
"""SOP class not supported, not authorized, destination unknown, identifier does not match the model."""

_MOST_CONTEXTS = 128
_MOST_LISTED = 100
_LOOK_S = 0.5
# Each in a context of its own: an archive that offers its images in one of several transfer syntaxes of a
# context may choose to convert them; in its own context each comes as it is kept.
_SYNTAXES = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    *sorted({str(uid) for uid in AllTransferSyntaxes} - {ExplicitVRLittleEndian, ImplicitVRLittleEndian}),
)
_USUAL_CLASSES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{leaf}"
    for leaf in ("2", "2.1", "4", "4.1", "1", "1.1", "1.2", "7", "128", "6.1", "66.4", "88.33", "88.22")
)


class MoveRetrieval:
    """Retrieves by C-MOVE: what comes arrives at our own port like anything that is sent.

    Parameters
    ----------
    destination
        Our own AE title, as the archive knows it.
    silence_s
        How long the archive may tell nothing.
    """

    def __init__(
        self, address: DicomAddress, *, destination: str, timeout_s: float = 30.0, silence_s: float = 300.0
    ) -> None:
        self._address = address
        self._destination = destination
        self._timeout_s = timeout_s
        self._silence_s = silence_s

    def close(self) -> None:
        """Nothing stays open between pieces."""

    def retrieve(self, piece: Piece, receiver: Receiver) -> None:
        """Have a piece sent to our port.

        Raises
        ------
        DeliveryError
            If the archive failed or did not send all of it.
        """
        context = build_context(STUDY_ROOT_MOVE, list(TRANSFER_SYNTAXES))
        for identifier in _identifiers(piece):
            with association([context], self._address, timeout_s=self._timeout_s) as peer:
                request = C_MOVE()
                request.AffectedSOPClassUID = STUDY_ROOT_MOVE
                request.MoveDestination = self._destination
                _perform(peer, request, identifier, receiver, silence_s=self._silence_s)


class GetRetrieval:
    """Retrieves by C-GET: what comes arrives on the association that asked for it.

    Parameters
    ----------
    actor
        As who what comes is marked.
    silence_s
        How long the archive may send nothing.
    """

    def __init__(
        self, address: DicomAddress, actor: Actor, *, timeout_s: float = 30.0, silence_s: float = 300.0
    ) -> None:
        self._address = address
        self._actor = actor
        self._timeout_s = timeout_s
        self._silence_s = silence_s

    def close(self) -> None:
        """Nothing stays open between pieces."""

    def retrieve(self, piece: Piece, receiver: Receiver) -> None:
        """Have a piece sent on an association of ours.

        Raises
        ------
        DeliveryError
            If the archive failed or did not send all of it.
        """
        classes = sorted({uid for uid in piece.instances.values() if uid}) or list(_USUAL_CLASSES)
        contexts = [build_context(STUDY_ROOT_GET, list(TRANSFER_SYNTAXES)), *_storage_contexts(classes)]
        roles = [build_role(uid, scp_role=True) for uid in classes]
        for identifier in _identifiers(piece):
            with association(contexts, self._address, timeout_s=self._timeout_s, roles=roles) as peer:
                if not any(one.as_scp for one in peer.accepted_contexts):
                    raise FinalDeliveryError("the archive hands over none of these SOP classes by C-GET")
                request = C_GET()
                request.AffectedSOPClassUID = STUDY_ROOT_GET
                taking = SubOperations(peer, receiver, self._actor)
                try:
                    _perform(
                        peer,
                        request,
                        identifier,
                        receiver,
                        silence_s=self._silence_s,
                        heard_at=lambda taking=taking: taking.heard_at,  # type: ignore[misc]
                    )
                finally:
                    taking.end()


def _storage_contexts(classes: Iterable[str]) -> list[PresentationContext]:
    """Each SOP class in each transfer syntax, as many as an association may have, the usual ones first."""
    several = list(classes)
    every = (build_context(uid, syntax) for syntax in _SYNTAXES for uid in several)
    return list(islice(every, _MOST_CONTEXTS - 1))


def _identifiers(piece: Piece) -> Iterator[Dataset]:
    """What names a piece: its series, or its instances, some at a time."""
    if piece.is_whole:
        yield _identifier("SERIES", piece)
        return
    uids = sorted(piece.instances)
    for at in range(0, len(uids), _MOST_LISTED):
        identifier = _identifier("IMAGE", piece)
        identifier.SOPInstanceUID = uids[at : at + _MOST_LISTED]
        yield identifier


def _identifier(level: str, piece: Piece) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = piece.study_instance_uid
    identifier.SeriesInstanceUID = piece.series_instance_uid
    return identifier


def _perform(
    peer: Any,
    request: Any,
    identifier: Dataset,
    receiver: Receiver,
    *,
    silence_s: float,
    heard_at: Callable[[], float] = lambda: 0.0,
) -> None:
    """Send a request and wait for its last answer.

    The library's own way waits for one answer as long as for all, and cannot be told to end.

    Raises
    ------
    DeliveryError
        If the answer is no success, or none comes.
    """
    model = str(request.AffectedSOPClassUID)
    context = next((one for one in peer.accepted_contexts if one.abstract_syntax == model), None)
    if context is None:
        raise FinalDeliveryError("the archive does not offer this way of retrieval")
    syntax = context.transfer_syntax[0]
    encoded = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert encoded is not None
    request.MessageID = 1
    request.Priority = 0
    request.Identifier = BytesIO(encoded)
    peer.dimse_timeout = _LOOK_S
    peer._reactor_checkpoint.clear()  # answers are for us, not for the library's own thread
    try:
        peer.dimse.send_msg(request, context.context_id)
        status, failed = _end(peer, receiver, silence_s, heard_at)
    except DeliveryError:
        peer.abort()
        raise
    finally:
        peer._reactor_checkpoint.set()
    _judge(status, failed)


def _end(peer: Any, receiver: Receiver, silence_s: float, heard_at: Callable[[], float]) -> tuple[int, int]:
    """Status of the last answer, and how many instances it says could not be sent."""
    answered_at = time.monotonic()
    while True:
        _, answer = peer.dimse.get_msg(block=True)
        now = time.monotonic()
        if receiver.is_ending():
            raise RetryableDeliveryError("we are stopping")
        if answer is None:
            if not _is_connected(peer):
                raise RetryableDeliveryError("the archive ended the association")
            if now - max(answered_at, heard_at()) > silence_s:
                raise RetryableDeliveryError("the archive is silent")
            continue
        answered_at = now
        status = getattr(answer, "Status", None)
        if not isinstance(answer, C_GET | C_MOVE) or status is None:
            raise RetryableDeliveryError("the archive sent something else than an answer")
        if status in _PENDING:
            continue
        return int(status), int(answer.NumberOfFailedSuboperations or 0)


def _is_connected(peer: Any) -> bool:
    return peer.is_established and peer.dul.socket is not None and peer.dul.is_alive()


def _judge(status: int, failed: int) -> None:
    """Return if all was sent."""
    if status == _UNKNOWN_DESTINATION:
        raise FinalDeliveryError("the archive does not know us as destination of a move (A801)")
    if status in _FOR_GOOD:
        raise FinalDeliveryError(f"the archive answered {status:04X}")
    if status == _PARTLY or (not status and failed):
        raise RetryableDeliveryError(f"the archive could not send {failed} instances")
    if status:
        raise RetryableDeliveryError(f"the archive answered {status:04X}")
