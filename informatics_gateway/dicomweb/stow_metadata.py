# SPDX-License-Identifier: Apache-2.0
"""From a data set in DICOM JSON or XML and its bulk data to a Part 10 file (PS3.18 10.5.2, 8.7.3).

Pixel data go from one file to the other in pieces; other bulk data are held for one instance at a time. What
comes in is hostile: documents, nesting, elements and bulk data have limits.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRLittleEndian

from informatics_gateway.dicomweb.media import DICOM_XML, OCTET_STREAM, MediaType
from informatics_gateway.dicomweb.native_xml import NativeXmlError, read
from profiles.dicom_json import DicomJson, tag_key, text
from profiles.uids import derived_uid, is_uid
from task_manager.ports import StagedObject

MAX_DATA_SETS = 10_000
MAX_DEPTH = 24
MAX_ELEMENTS = 500_000
MAX_HELD_BYTES = 256 * 1024**2
IMPLEMENTATION_CLASS_UID = derived_uid("airway", "implementation class")

_CHUNK_BYTES = 1024 * 1024
_MOST_VALUE_BYTES = 0xFFFFFFFE
_PIXELS = {"7FE00008": "OF", "7FE00009": "OD", "7FE00010": "OW"}
_BINARY_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_TEXT_VRS = frozenset(("LT", "ST", "UC", "UR", "UT"))
_RETRIEVAL = frozenset(
    map(tag_key, ("AvailableTransferSyntaxUID", "RetrieveURL", "InstanceAvailability", "TransferSyntaxUID"))
)
_SYNTAXES = frozenset(str(uid) for uid in AllTransferSyntaxes)
_DEFAULT_SYNTAXES = {
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "video/mpeg": "1.2.840.10008.1.2.4.100",
    "video/mp4": "1.2.840.10008.1.2.4.102",
}
_JPEG_SYNTAXES = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.70",
}
_BUILDING = threading.Lock()


class MetadataError(ValueError):
    """The metadata or bulk data make no instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPart:
    """A part that holds the bytes of one value, or of one compressed frame."""

    media_type: MediaType
    staged: StagedObject


def read_metadata(kind: str, document: bytes) -> list[DicomJson]:
    """The data sets of one metadata part, looked at no further than their shape.

    Raises
    ------
    MetadataError
        If it is no document of its media type, or beyond the limits.
    """
    try:
        found: Any = [read(document)] if kind == DICOM_XML else orjson.loads(document)
    except (NativeXmlError, orjson.JSONDecodeError, RecursionError) as error:
        raise MetadataError("the metadata cannot be read") from error
    data_sets = found if isinstance(found, list) else [found]
    if len(data_sets) > MAX_DATA_SETS:
        raise MetadataError(f"the metadata have more than {MAX_DATA_SETS} data sets")
    left = MAX_ELEMENTS
    for data_set in data_sets:
        if not isinstance(data_set, dict):
            raise MetadataError("the metadata are no array of data sets")
        left -= _count(data_set, left)
    return data_sets


def _count(data_set: DicomJson, most: int) -> int:
    """How many elements there are, in all depths."""
    count, level = 0, [data_set]
    for _ in range(MAX_DEPTH):
        below: list[DicomJson] = []
        for one in level:
            count += len(one) + 1
            for element in one.values():
                if not isinstance(element, dict):
                    raise MetadataError("an attribute is no object")
                values = element.get("Value")
                if isinstance(values, list):
                    count += len(values) // 16
                    below += [item for item in values if isinstance(item, dict) and element.get("vr") == "SQ"]
            if count > most:
                raise MetadataError(f"the metadata have more than {MAX_ELEMENTS} elements")
        if not below:
            return count
        level = below
    raise MetadataError(f"the metadata have more than {MAX_DEPTH} sequences in each other")


class InstanceBuilder:
    """Writes instances from data sets and the bulk data of one request.

    Parameters
    ----------
    bulk
        Content-Location to the parts there; several are the frames of one image.
    """

    def __init__(self, bulk: Mapping[str, Sequence[BulkPart]]) -> None:
        self._bulk = bulk
        self._held = 0

    @staticmethod
    def uids(data_set: DicomJson) -> tuple[str, str]:
        """SOP Class UID and SOP Instance UID as given; empty if ill-formed."""
        found = (text(data_set, "SOPClassUID"), text(data_set, "SOPInstanceUID"))
        return (found[0] if is_uid(found[0]) else "", found[1] if is_uid(found[1]) else "")

    def write(self, data_set: DicomJson, staged: StagedObject) -> None:
        """Write the Part 10 file.

        Raises
        ------
        MetadataError
            If data set and bulk data make none.
        StoreError
            If the disk fails.
        """
        pixels = next((tag for tag in _PIXELS if "BulkDataURI" in data_set.get(tag, ())), "")
        parts = self._parts(data_set[pixels]["BulkDataURI"]) if pixels else ()
        syntax = _transfer_syntax(data_set, parts)
        kept = {
            tag: element
            for tag, element in data_set.items()
            if tag != pixels and tag not in _RETRIEVAL and not tag.startswith("0002")
        }
        staged.write(self._header(kept, syntax))
        if not pixels:
            return
        # what comes after the pixels, padding and signatures, is not valid any more
        vr = str(data_set[pixels].get("vr") or _PIXELS[pixels])
        for chunk in _pixel_element(pixels, vr if vr in ("OB", "OW", "OF", "OD") else "OW", parts, syntax):
            staged.write(chunk)

    def _header(self, data_set: DicomJson, syntax: str) -> bytes:
        """The file up to the pixels, by pydicom; one at a time, for that holds its bulk data in memory."""
        with _BUILDING, warnings.catch_warnings():
            self._held = 0
            warnings.simplefilter("ignore")  # of values, which have no place in a log
            try:
                made = Dataset.from_json(
                    {tag: one for tag, one in data_set.items() if tag < "7FE00011"}, self._bulk_value
                )
                made.SpecificCharacterSet = "ISO_IR 192"  # what was Unicode stays so
                made.file_meta = _file_meta(data_set, syntax)
                file = io.BytesIO()
                dcmwrite(file, made, enforce_file_format=True)
            except MetadataError:
                raise
            except Exception as error:
                raise MetadataError(f"the data set cannot be written ({type(error).__name__})") from error
        return file.getvalue()

    def _parts(self, location: object) -> Sequence[BulkPart]:
        found = self._bulk.get(location) if isinstance(location, str) else None
        if not found:
            raise MetadataError("bulk data that are referred to have not come")
        return found

    def _bulk_value(self, tag: str, vr: str, location: str) -> bytes | str:
        del tag
        parts = self._parts(location)
        self._held += sum(part.staged.size for part in parts)  # one part may be referred to many times
        if self._held > MAX_HELD_BYTES:
            raise MetadataError(f"bulk data other than pixels of more than {MAX_HELD_BYTES} bytes")
        content = b"".join(chunk for part in parts for chunk in _chunks(part.staged))
        if vr in _TEXT_VRS:
            return content.decode("utf-8", "replace").rstrip("\0 ")
        if vr not in _BINARY_VRS:
            raise MetadataError("bulk data of a VR that has none")
        return content + b"\0" * (len(content) % 2)


def _file_meta(data_set: DicomJson, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    sop_class_uid, sop_instance_uid = InstanceBuilder.uids(data_set)
    if not (sop_class_uid and sop_instance_uid):
        raise MetadataError("the data set has no SOP Class UID or SOP Instance UID")
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    return meta


def _transfer_syntax(data_set: DicomJson, parts: Sequence[BulkPart]) -> str:
    """What the pixels are in: as their part says, as the data set says, as their media type means."""
    if not parts or parts[0].media_type.name == OCTET_STREAM:
        return str(ExplicitVRLittleEndian)
    kind = parts[0].media_type
    named = (
        kind.parameter("transfer-syntax")
        or text(data_set, "AvailableTransferSyntaxUID")
        or text(data_set, "TransferSyntaxUID")
    )
    if not named and kind.name == "image/jpeg":
        named = _jpeg_syntax(parts[0].staged)
    syntax = named or _DEFAULT_SYNTAXES.get(kind.name, "")
    if syntax not in _SYNTAXES or not UID(syntax).is_compressed:
        raise MetadataError("pixel data in no transfer syntax that is known")
    return syntax


def _jpeg_syntax(staged: StagedObject) -> str:
    """The transfer syntax that the frame header of a JPEG stream tells (ISO/IEC 10918-1 B.2.2)."""
    with staged.path.open("rb") as file:
        head = file.read(64 * 1024)
    at = 2
    while head[:2] == b"\xff\xd8" and at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _JPEG_SYNTAXES.get(marker, "")
        at += 2 + length
    return ""


def _pixel_element(tag: str, vr: str, parts: Sequence[BulkPart], syntax: str) -> Iterator[bytes]:
    group, number = int(tag[:4], 16), int(tag[4:], 16)
    if UID(syntax).is_compressed:
        yield struct.pack("<HH2sHL", group, number, b"OB", 0, 0xFFFFFFFF)
        yield struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        for part in parts:
            size = part.staged.size
            if size > _MOST_VALUE_BYTES:
                raise MetadataError("a frame that is longer than a fragment can be")
            yield struct.pack("<HHL", 0xFFFE, 0xE000, size + size % 2)
            yield from _chunks(part.staged)
            yield b"\0" * (size % 2)
        yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        return
    size = sum(part.staged.size for part in parts)
    if size > _MOST_VALUE_BYTES:
        raise MetadataError("pixel data that are longer than a value can be")
    yield struct.pack("<HH2sHL", group, number, vr.encode("ascii"), 0, size + size % 2)
    for part in parts:
        yield from _chunks(part.staged)
    yield b"\0" * (size % 2)


def _chunks(staged: StagedObject) -> Iterator[bytes]:
    with staged.path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
