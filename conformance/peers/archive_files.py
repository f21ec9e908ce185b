# SPDX-License-Identifier: Apache-2.0
"""The folder of the stand-in archive: DICOM files by study and series, and what a query may ask of them.

Independent of the product: pydicom reads and writes everything here.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import keyword_for_tag, tag_for_keyword

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_STUDY = (
    *("SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"),
    "StudyDescription",
)
_SERIES = ("SpecificCharacterSet", "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription")
_INSTANCE = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns"),
    *("BitsAllocated", "NumberOfFrames"),
)
_CONTROLS = frozenset(("limit", "offset", "includefield", "fuzzymatching"))


class NotStorableError(ValueError):
    """The bytes are no DICOM instance with usable UIDs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedInstance:
    """A stored file and the attributes of its header."""

    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    header: pydicom.Dataset


class ArchiveFiles:
    """Keeps instances; the first file under a SOP Instance UID stays.

    Parameters
    ----------
    folder : Path
        Where files go; what it holds already is served again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._instances: dict[str, ArchivedInstance] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.rglob("*.dcm")):
            known = _read(path.read_bytes(), path)
            self._instances[known.sop_instance_uid] = known

    def store(self, content: bytes) -> ArchivedInstance:
        """Keep a Part 10 file and return its record.

        Raises
        ------
        NotStorableError
            When it is no DICOM file or lacks a UID.
        """
        found = _read(content, Path())
        with self._lock:
            if found.sop_instance_uid in self._instances:
                return self._instances[found.sop_instance_uid]
            folder = self._folder / found.study_instance_uid / found.series_instance_uid
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{found.sop_instance_uid}.dcm"
            partial = path.with_suffix(".part")
            partial.write_bytes(content)
            partial.replace(path)
            kept = _read(content, path)
            self._instances[kept.sop_instance_uid] = kept
            return kept

    def select(self, study: str = "", series: str = "", instance: str = "") -> list[ArchivedInstance]:
        """Return the instances below a study, series or instance; all when none is given."""
        with self._lock:
            known = list(self._instances.values())
        return [
            each
            for each in known
            if study in ("", each.study_instance_uid)
            and series in ("", each.series_instance_uid)
            and instance in ("", each.sop_instance_uid)
        ]

    def search(
        self, level: str, query: Iterable[tuple[str, str]], *, study: str = "", series: str = ""
    ) -> list[dict[str, Any]]:
        """Return the DICOM JSON answers to a QIDO-RS query.

        Parameters
        ----------
        level : str
            ``study``, ``series`` or ``instance``.
        query : iterable of (name, value)
            Keywords or tags with wildcards, ``limit`` and ``offset``.
        """
        keys, limit, offset = _keys(query)
        groups: dict[str, list[ArchivedInstance]] = {}
        for each in self.select(study, series):
            identity = {
                "study": each.study_instance_uid,
                "series": each.series_instance_uid,
                "instance": each.sop_instance_uid,
            }[level]
            groups.setdefault(identity, []).append(each)
        answers = [
            _answer(level, members)
            for members in groups.values()
            if any(_matches(member.header, keys) for member in members)
        ]
        return answers[offset : offset + limit]


def _read(content: bytes, path: Path) -> ArchivedInstance:
    try:
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        transfer_syntax_uid = str(header.file_meta.TransferSyntaxUID)
        uids = {keyword: str(header[keyword].value) for keyword in _UIDS}
    except Exception as error:  # any reading error of pydicom means the same here
        raise NotStorableError("not a DICOM instance") from error
    if not all(_UID.fullmatch(uid) and len(uid) <= 64 for uid in uids.values()):
        raise NotStorableError("a UID is missing or ill-formed")
    return ArchivedInstance(
        path=path,
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        transfer_syntax_uid=transfer_syntax_uid,
        header=header,
    )


def _keys(query: Iterable[tuple[str, str]]) -> tuple[dict[str, str], int, int]:
    keys: dict[str, str] = {}
    limit, offset = 10_000, 0
    for name, value in query:
        if name in ("limit", "offset") and value.isdigit():
            if name == "limit":
                limit = int(value[:6])
            else:
                offset = int(value[:6])
        elif name not in _CONTROLS:
            keyword = keyword_for_tag(int(name, 16)) if re.fullmatch("[0-9A-Fa-f]{8}", name) else name
            if tag_for_keyword(keyword) is not None and value:
                keys["Modality" if keyword == "ModalitiesInStudy" else keyword] = value
    return keys, limit, offset


def _matches(header: pydicom.Dataset, keys: Mapping[str, str]) -> bool:
    for keyword, wanted in keys.items():
        pattern = "".join({"*": ".*", "?": "."}.get(each) or re.escape(each) for each in wanted)
        if not re.fullmatch(pattern, str(header.get(keyword, "")), re.DOTALL):
            return False
    return True


def _answer(level: str, members: list[ArchivedInstance]) -> dict[str, Any]:
    first = members[0]
    keywords = {"study": _STUDY, "series": _SERIES, "instance": _INSTANCE}[level]
    answer = pydicom.Dataset()
    for keyword in keywords:
        if keyword in first.header:
            answer.add(first.header[keyword])
    answer.StudyInstanceUID = first.study_instance_uid
    if level == "study":
        modalities = sorted({str(each.header.get("Modality", "")) for each in members} - {""})
        answer.ModalitiesInStudy = modalities
        answer.NumberOfStudyRelatedSeries = len({each.series_instance_uid for each in members})
        answer.NumberOfStudyRelatedInstances = len(members)
    elif level == "series":
        answer.NumberOfSeriesRelatedInstances = len(members)
    else:
        answer.SeriesInstanceUID = first.series_instance_uid
        answer.AvailableTransferSyntaxUID = first.transfer_syntax_uid
    return dict(answer.to_json_dict())
