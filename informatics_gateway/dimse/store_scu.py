# SPDX-License-Identifier: Apache-2.0
"""The C-STORE SCU: files to a DICOM destination over one association, in order.

Files go out as they are where the peer takes that; else without compression, in Explicit or Implicit VR
Little Endian, and never with a loss. Who retries and when is the worker's business.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, build_context
from pynetdicom.presentation import PresentationContext

from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.pixels.transcoding import TranscodingError, can_decode, write_native
from task_manager.delivery.answers import Meaning, of_store_status
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.outcome import Refused
from task_manager.ports import Receipt, Shipment, Turn, at_once
from task_manager.study.content import UNREADABLE
from task_manager.study.frames import locate_frames
from task_manager.study.header import read_header

_LOG = logging.getLogger(__name__)
_MAX_CONTEXTS = 128
_NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileToSend:
    """A Part 10 file with what its presentation context is made of."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


class DicomDeliverer:
    """Delivers shipments by C-STORE; see :class:`task_manager.ports.Deliverer`.

    Parameters
    ----------
    timeout_s
        For connecting, association and each answer.
    """

    def __init__(self, address: DicomAddress, *, timeout_s: float = 60.0) -> None:
        self._address = address
        self._timeout_s = timeout_s

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Store every instance in the order of the shipment; stop at the first that is not stored.

        Raises
        ------
        RetryableDeliveryError
            Connection refused, association rejected as transient or aborted, no answer in time,
            status A7xx or 0110.
        FinalDeliveryError
            Association rejected for good, SOP class or transfer syntax not accepted, any other failure
            status (0111, a duplicate, is there).
        """
        files = [
            FileToSend(
                path=path,
                sop_class_uid=instance.sop_class_uid,
                transfer_syntax_uid=instance.transfer_syntax_uid,
            )
            for instance, path in zip(shipment.instances, shipment.paths, strict=True)
        ]
        sent = store_files(files, self._address, timeout_s=self._timeout_s, turn=turn)
        return Receipt(
            summary=f"{len(files)} instances stored at {self._address.called_ae_title}{sent.notes()}",
            sent_at=datetime.now(UTC),
        )


@dataclass(slots=True, kw_only=True)
class Sent:
    """What is to be told of files that were stored.

    Attributes
    ----------
    decompressed
        How many were sent without their compression, or in another encoding.
    statuses
        How often the peer answered each warning status.
    """

    decompressed: int
    statuses: dict[int, int]

    def notes(self) -> str:
        """For people, to be put behind what was done; empty if there is nothing to tell."""
        told = [f"{self.decompressed} in another transfer syntax"] if self.decompressed else []
        told += [f"{number} with status {status:04X}" for status, number in sorted(self.statuses.items())]
        return f" ({', '.join(told)})" if told else ""


def store_files(
    files: Sequence[FileToSend],
    address: DicomAddress,
    *,
    timeout_s: float = 60.0,
    turn: Turn = at_once,
    stored: Callable[[FileToSend], None] = lambda file: None,
) -> Sent:
    """C-STORE `files` in order; `turn` is called before each, `stored` after.

    One association, unless the peer ends it while a turn is waited for.

    Raises
    ------
    RetryableDeliveryError, FinalDeliveryError
        See :meth:`DicomDeliverer.deliver`; the message says how many were stored before.
    """
    sent = Sent(decompressed=0, statuses={})
    contexts = _proposed(files)
    # files go out as their bytes are; the library then reads the file meta information only
    _config.STORE_SEND_CHUNKED_DATASET = True
    number = 0
    while number < len(files):
        if number == 0:
            turn()
        with association(contexts, address, timeout_s=timeout_s) as peer:
            accepted = {
                (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in peer.accepted_contexts
            }
            while number < len(files):
                file = files[number]
                _store(peer, file, accepted, sent, f"{number} of {len(files)} stored")
                stored(file)
                number += 1
                if number < len(files):
                    turn()
                    if not peer.is_established:
                        break
    return sent


def _proposed(files: Sequence[FileToSend]) -> list[PresentationContext]:
    """Each kind of file as it is, and native for those that can be made so, as far as there is room."""
    kinds = sorted({(file.sop_class_uid, file.transfer_syntax_uid) for file in files})
    if len(kinds) > _MAX_CONTEXTS:
        raise FinalDeliveryError(f"more than {_MAX_CONTEXTS} kinds of objects in one association")
    native = dict.fromkeys(sop_class for sop_class, syntax in kinds if can_decode(syntax))
    room = _MAX_CONTEXTS - len(kinds)
    return [
        *(build_context(sop_class, syntax) for sop_class, syntax in kinds),
        *(build_context(sop_class, list(_NATIVE)) for sop_class in list(native)[:room]),
    ]


def _store(peer: Any, file: FileToSend, accepted: set[tuple[str, str]], sent: Sent, progress: str) -> None:
    with _as_accepted(file, accepted, progress) as (path, changed):
        try:
            answer = peer.send_c_store(path)
        except RuntimeError as error:  # the association ended since the last answer
            raise RetryableDeliveryError(
                f"{progress}; the peer ended the association", unreachable=True
            ) from error
        except (OSError, ValueError, AttributeError) as error:
            raise FinalDeliveryError(f"{progress}; the next file cannot be sent") from error
    if "Status" not in answer:
        raise RetryableDeliveryError(
            f"{progress}; no answer, or the peer ended the association", unreachable=True
        )
    status = int(answer.Status)
    match of_store_status(status):
        case Meaning.LATER:
            raise RetryableDeliveryError(f"{progress}; the peer answered {status:04X}")
        case Meaning.NEVER:
            raise FinalDeliveryError(f"{progress}; the peer answered {status:04X}")
        case Meaning.NOTED:
            sent.statuses[status] = sent.statuses.get(status, 0) + 1
            _LOG.warning(
                "stored with a warning", extra={"action": "store_scu.warning", "status": f"{status:04X}"}
            )
    sent.decompressed += changed


@contextmanager
def _as_accepted(
    file: FileToSend, accepted: set[tuple[str, str]], progress: str
) -> Iterator[tuple[Path, bool]]:
    """A file in a transfer syntax that the peer accepts, and whether that is another than its own."""
    if (file.sop_class_uid, file.transfer_syntax_uid) in accepted:
        yield file.path, False
        return
    syntax = next((one for one in _NATIVE if (file.sop_class_uid, one) in accepted), None)
    if syntax is None or not can_decode(file.transfer_syntax_uid):
        raise FinalDeliveryError(
            f"{progress}; the peer accepts no context for SOP class "
            f"{file.sop_class_uid} in transfer syntax {file.transfer_syntax_uid}"
        )
    header = read_header(file.path)
    if isinstance(header, Refused):
        raise FinalDeliveryError(f"{progress}; the next file cannot be read")
    with tempfile.NamedTemporaryFile(suffix=".dcm") as native:
        try:
            frames = locate_frames(file.path, header.attributes)
            write_native(file.path, frames, native, implicit_vr=syntax == ImplicitVRLittleEndian, exact=True)
            native.flush()
        except TranscodingError as error:
            raise FinalDeliveryError(
                f"{progress}; the peer takes no {file.transfer_syntax_uid}, and {error}"
            ) from error
        except UNREADABLE as error:
            raise FinalDeliveryError(
                f"{progress}; the peer takes no {file.transfer_syntax_uid}, and the frames cannot be found"
            ) from error
        except OSError as error:
            raise RetryableDeliveryError(
                f"{progress}; there is no room to decompress the next file"
            ) from error
        yield Path(native.name), True
