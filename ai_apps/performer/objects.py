# SPDX-License-Identifier: Apache-2.0
"""Inputs in by WADO-RS and results out by STOW-RS, one DICOM file at a time, never held in memory.

Both are safe to repeat: what is there already is not written again, and storing an object twice is
harmless. Addresses come from the workitem.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from ai_apps.performer.multipart import content_type, framed_file
from ai_apps.ups_rs.connection import Connection
from ai_apps.ups_rs.errors import ConflictError, UnreachableError
from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.multipart import MultipartError, MultipartParser, PartBegan, PartData, PartEnded
from profiles.uids import is_uid

_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_JSON = "application/dicom+json"
_MAXIMUM_INPUTS = 100_000
_MAXIMUM_INPUT_BYTES = 8 << 30


class IncompleteInputsError(Exception):
    """Inputs of the workitem cannot be had; the message says how many and names no patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSet:
    """Instances of one series to be fetched from one address."""

    url: str
    sop_instance_uids: frozenset[str]


def input_sets(workitem: DicomJson) -> tuple[InputSet, ...]:
    """What a workitem's Input Information Sequence asks to be fetched, by WADO-RS address (PS3.3 C.30.2).

    Raises
    ------
    IncompleteInputsError
        If an item has no WADO-RS address or no well-formed instance reference, or there is none at all.
    """
    sets: list[InputSet] = []
    for item in dicom_json.items(workitem, "InputInformationSequence"):
        retrieval = dicom_json.items(item, "WADORSRetrievalSequence")
        url = dicom_json.text(retrieval[0], "RetrieveURL") if retrieval else ""
        uids = frozenset(
            dicom_json.text(reference, "ReferencedSOPInstanceUID")
            for reference in dicom_json.items(item, "ReferencedSOPSequence")
        )
        if not url or not uids or not all(is_uid(uid) for uid in uids):
            raise IncompleteInputsError("an input has no WADO-RS address or no instances")
        sets.append(InputSet(url=url, sop_instance_uids=uids))
    if not sets or sum(len(one.sop_instance_uids) for one in sets) > _MAXIMUM_INPUTS:
        raise IncompleteInputsError(f"the workitem has no inputs, or more than {_MAXIMUM_INPUTS}")
    return tuple(sets)


def fetch(
    connection: Connection,
    sets: tuple[InputSet, ...],
    folder: Path,
    *,
    check: Callable[[], None] = lambda: None,
) -> tuple[Path, ...]:
    """The files of all instances in `folder`, fetched unless they are there; in order of their UIDs.

    `check` is called for every piece that comes; what it raises ends the fetch.

    Raises
    ------
    UnreachableError
        If the archive does not answer, or its answer breaks off; what came whole stays.
    RefusedError
        If the archive refuses.
    IncompleteInputsError
        If the archive answers and instances are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.part"):
        leftover.unlink()
    wanted: set[str] = set()
    for one in sets:
        wanted |= one.sop_instance_uids
        check()
        if any(not _file(folder, uid).exists() for uid in one.sop_instance_uids):
            _fetch_set(connection, one, folder, check)
    missing = [uid for uid in wanted if not _file(folder, uid).exists()]
    if missing:
        raise IncompleteInputsError(f"{len(missing)} of {len(wanted)} input instances are not available")
    return tuple(_file(folder, uid) for uid in sorted(wanted))


def _file(folder: Path, uid: str) -> Path:
    return folder / f"{uid}.dcm"


def _fetch_set(connection: Connection, wanted: InputSet, folder: Path, check: Callable[[], None]) -> None:
    with connection.stream("GET", wanted.url, headers={"Accept": _ACCEPT}) as response:
        media_type, parameters = content_type(response.headers.get("content-type", ""))
        pieces = _checked(response.iter_bytes(), check)
        if media_type == "application/dicom":
            _write_part(pieces, wanted, folder)
        elif media_type == "multipart/related":
            try:
                _read_parts(pieces, parameters.get("boundary", ""), wanted, folder)
            except MultipartError as error:
                raise UnreachableError(f"the archive's answer is malformed: {error}") from error
        else:
            raise UnreachableError("the archive's answer is not DICOM")


def _checked(pieces: Iterator[bytes], check: Callable[[], None]) -> Iterator[bytes]:
    for piece in pieces:
        check()
        yield piece


def _read_parts(pieces: Iterator[bytes], boundary: str, wanted: InputSet, folder: Path) -> None:
    parser = MultipartParser(boundary, max_parts=_MAXIMUM_INPUTS, max_part_bytes=_MAXIMUM_INPUT_BYTES)
    part = folder / "incoming.part"
    out = None
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                match event:
                    case PartBegan():
                        out = part.open("wb")
                    case PartData(data):
                        assert out is not None
                        out.write(data)
                    case PartEnded():
                        assert out is not None
                        _keep(out.close, part, wanted, folder)
        parser.close()
    finally:
        if out is not None:
            out.close()


def _write_part(pieces: Iterator[bytes], wanted: InputSet, folder: Path) -> None:
    part = folder / "incoming.part"
    with part.open("wb") as out:
        for piece in pieces:
            out.write(piece)
    _keep(lambda: None, part, wanted, folder)


def _keep(close: Callable[[], None], part: Path, wanted: InputSet, folder: Path) -> None:
    """Give a whole file its name if it is one of the instances asked for; drop it otherwise."""
    close()
    try:
        header = dcmread(part, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        uid = str(header.get("SOPInstanceUID", ""))
    except (InvalidDicomError, ValueError, OSError, EOFError, KeyError, AttributeError, NotImplementedError):
        uid = ""
    if uid in wanted.sop_instance_uids:
        os.replace(part, _file(folder, uid))
    else:
        part.unlink()


def store(connection: Connection, url: str, path: Path) -> None:
    """Store the one object at `path` by STOW-RS; again is harmless (PS3.18 10.5).

    Raises
    ------
    UnreachableError
        If the archive cannot take it now.
    RefusedError
        If the archive refuses the object.
    """
    boundary = f"airway-{secrets.token_hex(12)}"
    length, pieces = framed_file(path, boundary)
    answer = connection.request(
        "POST",
        url,
        headers={
            "Accept": _JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
        },
        content=pieces,
    )
    if answer.status == 202:
        content = answer.document()
        report = content[0] if isinstance(content, list) and content else content
        if isinstance(report, dict) and dicom_json.items(report, "FailedSOPSequence"):
            failed = dicom_json.items(report, "FailedSOPSequence")[0]
            raise ConflictError(409, told=f"failure reason {dicom_json.text(failed, 'FailureReason')}")


def output_url(workitem: DicomJson, default: str) -> str:
    """The STOW-RS address of a workitem's Output Destination Sequence, else `default` (PS3.3 C.30.2)."""
    for destination in dicom_json.items(workitem, "OutputDestinationSequence"):
        for storage in dicom_json.items(destination, "STOWRSStorageSequence"):
            url = dicom_json.text(storage, "StorageURL")
            if url:
                return url
    return default
