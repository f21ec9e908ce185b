# SPDX-License-Identifier: Apache-2.0
"""The header of a DICOM file, read once on arrival.

The only reader of files that strangers send: whatever the bytes are, the answer is a header or a refusal with
its faults. Pixels are not loaded; that they are all there is checked by their declared lengths.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import (
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from profiles.dicom_json import DicomJson, text
from profiles.faults import Fault
from profiles.uids import is_uid
from task_manager.outcome import RefusalCode, Refused
from task_manager.study.elements import Buffer, ElementReader, EncodingError
from task_manager.study.familiar import FamiliarHeaders
from task_manager.study.model import InstanceHeader

MAX_INFLATED_BYTES = 128 * 1024 * 1024
"""A deflated data set is inflated in memory to read its header: more than this is refused."""

_META_START = 132
_MAX_META_BYTES = 64 * 1024
_KNOWN_TRANSFER_SYNTAXES = frozenset(str(uid) for uid in AllTransferSyntaxes)
_LONG_VRS = frozenset((b"OB", b"UN", b"UT", b"OW", b"SQ", b"UC", b"UR"))
_FAMILIAR = FamiliarHeaders()
"""Headers read before: one image of a series says most of what the next one says."""
_REQUIRED_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read_header(path: Path) -> InstanceHeader | Refused:
    """The header of the Part 10 file at `path`, or why it cannot be stored.

    Refused as MALFORMED: no bytes, no DICOM prefix, elements, sequences or pixel data that do not end within
    the file, groups that have no place in a data set, an inflated size over :data:`MAX_INFLATED_BYTES`.
    Refused as NOT_STORABLE: an unknown transfer syntax, missing or ill-formed UIDs.

    References
    ----------
    PS3.10 7.1, PS3.5 7.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return _read(file)
    except OSError:
        return _refused(RefusalCode.PROCESSING_FAILURE, "", "the file cannot be read")
    except EncodingError as error:
        return _refused(RefusalCode.MALFORMED, error.where, str(error))
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        return _refused(RefusalCode.MALFORMED, "", f"the data set cannot be read ({type(error).__name__})")


def header_from_start(start: bytes, size: int) -> InstanceHeader | None:
    """The header of a Part 10 file of `size` bytes that begins with `start`, where that says enough.

    None where more has to be looked at, and where anything is wrong: :func:`read_header` tells.
    """
    try:
        meta, at = _file_meta(start)
    except (ValueError, struct.error):
        return None
    transfer_syntax = meta.get(0x0010, "")
    if transfer_syntax not in _KNOWN_TRANSFER_SYNTAXES or transfer_syntax == DeflatedExplicitVRLittleEndian:
        return None
    attributes = _read_before_pixels(start, size, transfer_syntax, at)
    checked = _checked(attributes, transfer_syntax) if attributes is not None else None
    return checked if isinstance(checked, InstanceHeader) else None


def announced_uids(path: Path) -> tuple[str, str]:
    """SOP Class UID and SOP Instance UID that the file meta information names; empty where it names none.

    For answers about instances that were refused: these UIDs are checked for nothing but their form.
    """
    try:
        with path.open("rb") as file:
            meta, _ = _file_meta(file.read(_MAX_META_BYTES))
    except (OSError, ValueError, struct.error):
        return "", ""
    found = (meta.get(0x0002, ""), meta.get(0x0003, ""))
    return (found[0] if is_uid(found[0]) else "", found[1] if is_uid(found[1]) else "")


def data_set_offset(path: Path) -> int:
    """Where the data set of a file begins, by the elements before it: the length they claim may be wrong.

    0 where that cannot be told.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_MAX_META_BYTES)
    try:
        return _file_meta(head)[1]
    except (ValueError, struct.error):
        return 0


def _refused(code: RefusalCode, where: str, message: str) -> Refused:
    return Refused(code, (Fault(where, message),))


def _read(file: BinaryIO) -> InstanceHeader | Refused:
    head = file.read(_MAX_META_BYTES)
    meta, start = _file_meta(head)
    transfer_syntax = meta.get(0x0010, "")
    if transfer_syntax not in _KNOWN_TRANSFER_SYNTAXES:
        return _refused(
            RefusalCode.NOT_STORABLE, "TransferSyntaxUID", "missing, or not a transfer syntax of PS3.6"
        )
    attributes = None
    if transfer_syntax != DeflatedExplicitVRLittleEndian:
        attributes = _read_before_pixels(head, os.fstat(file.fileno()).st_size, transfer_syntax, start)
    if attributes is None:
        with _data_set(file, transfer_syntax, start) as encoded:
            attributes = ElementReader(
                encoded.data, explicit=encoded.explicit, little_endian=encoded.little_endian
            ).read(encoded.start)
    return _checked(attributes, transfer_syntax)


def _read_before_pixels(head: bytes, size: int, transfer_syntax: str, start: int) -> DicomJson | None:
    """The attributes where nothing but plain pixels is beyond `head`, the usual case; else None.

    Mapping the file into memory costs more than reading most headers. What cannot be read so is read whole,
    and only that says what is wrong with it.
    """
    encoded = EncodedDataSet(data=head, start=start, transfer_syntax_uid=transfer_syntax)
    try:
        if encoded.little_endian:
            return _FAMILIAR.read(head, start, size, explicit=encoded.explicit)
        return ElementReader(head, explicit=True, little_endian=False).read(start, size)
    except (EncodingError, struct.error, ValueError, IndexError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedDataSet:
    """The data set of a file: all bytes of the file, or those of a data set that was deflated.

    Attributes
    ----------
    data
        Valid while the file is open.
    start
        Where the data set begins in `data`.
    """

    data: Buffer
    start: int
    transfer_syntax_uid: str

    @property
    def explicit(self) -> bool:
        """Whether VRs are explicit."""
        return self.transfer_syntax_uid != ImplicitVRLittleEndian

    @property
    def little_endian(self) -> bool:
        """Whether the byte order is little endian."""
        return self.transfer_syntax_uid != ExplicitVRBigEndian


@contextmanager
def open_data_set(path: Path) -> Iterator[EncodedDataSet]:
    """The data set of a stored Part 10 file, mapped and not loaded.

    Raises
    ------
    EncodingError, ValueError, struct.error, zlib.error
        If the file is not one that :func:`read_header` takes.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        meta, start = _file_meta(file.read(_MAX_META_BYTES))
        with _data_set(file, meta.get(0x0010, ""), start) as encoded:
            yield encoded


@contextmanager
def _data_set(file: BinaryIO, transfer_syntax: str, start: int) -> Iterator[EncodedDataSet]:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        data: Buffer = whole
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            data, start = _inflated(whole[start:]), 0
        yield EncodedDataSet(data=data, start=start, transfer_syntax_uid=transfer_syntax)


def _checked(attributes: DicomJson, transfer_syntax: str) -> InstanceHeader | Refused:
    uids = {keyword: text(attributes, keyword) for keyword in _REQUIRED_UIDS}
    faults = tuple(
        Fault(keyword, "not a well-formed UID" if uid else "missing or empty")
        for keyword, uid in uids.items()
        if not is_uid(uid)
    )
    if faults:
        return Refused(RefusalCode.NOT_STORABLE, faults)
    return InstanceHeader(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=transfer_syntax,
        attributes=attributes,
    )


def _file_meta(head: bytes) -> tuple[dict[int, str], int]:
    """The UIDs of the file meta information by element number, and where the data set starts."""
    if not head:
        raise EncodingError("the file is empty")
    if head[128:_META_START] != b"DICM":
        raise EncodingError("not a DICOM file: the prefix DICM is missing")
    found: dict[int, str] = {}
    at = _META_START
    while at + 8 <= len(head):
        group, number, vr, length = struct.unpack_from("<HH2sH", head, at)
        if group != 0x0002:
            break
        value_at = at + 8
        if vr in _LONG_VRS:
            if at + 12 > len(head):
                raise EncodingError("the file meta information does not end", 0x00020000 | number)
            length = struct.unpack_from("<L", head, at + 8)[0]
            value_at = at + 12
        at = value_at + length
        if at > len(head):
            raise EncodingError("the file meta information does not end", 0x00020000 | number)
        if vr == b"UI":
            found[number] = head[value_at:at].rstrip(b"\0 ").decode("ascii", "replace")
    if not found:
        raise EncodingError("the file meta information is missing")
    return found, at


def _inflated(deflated: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(deflated, MAX_INFLATED_BYTES)
    if not stream.eof:
        if len(data) >= MAX_INFLATED_BYTES:
            raise EncodingError(f"inflates to more than {MAX_INFLATED_BYTES} bytes")
        raise EncodingError("the deflated data set does not end")
    return data
