# SPDX-License-Identifier: Apache-2.0
"""The study that is sent: a CT chest phantom, and copies of it under other UIDs, as encoded files.

A copy keeps every length, so that all copies are the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from conformance.phantoms import (
    ChestPhantom,
    datasets,
    make_ct_chest,
    series_instance_uid,
    sop_instance_uids,
    study_instance_uid,
)

_PIXEL_DATA = b"\xe0\x7f\x10\x00OW"
_DIGITS = 6
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedStudy:
    """A study as Part 10 files in memory.

    Attributes
    ----------
    files
        SOP Instance UID to the bytes of its file, in slice order.
    """

    study_instance_uid: str
    series_instance_uid: str
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def copy(self, number: int) -> EncodedStudy:
        """The same study under other UIDs of the same lengths."""
        return EncodedStudy(
            study_instance_uid=_renumbered(self.study_instance_uid, number),
            series_instance_uid=_renumbered(self.series_instance_uid, number),
            files={
                _renumbered(uid, number): self._relabelled(uid, data, number)
                for uid, data in self.files.items()
            },
        )

    def first(self, count: int) -> EncodedStudy:
        """A study of the first `count` images only."""
        return EncodedStudy(
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
            files=dict(list(self.files.items())[:count]),
        )

    def write(self, folder: Path) -> list[Path]:
        """Write every file into `folder`, made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, data in enumerate(self.files.values(), start=1):
            path = folder / f"CT.{number:05d}.dcm"
            path.write_bytes(data)
            paths.append(path)
        return paths

    def _relabelled(self, sop_instance_uid: str, data: bytes, number: int) -> bytes:
        header = data[: data.index(_PIXEL_DATA)]
        for uid in (self.study_instance_uid, self.series_instance_uid, sop_instance_uid):
            header = header.replace(uid.encode(), _renumbered(uid, number).encode())
        return header + data[len(header) :]


def make_study(slices: int, size: int) -> EncodedStudy:
    """A chest of `slices` images of `size` rows and columns, 16 bit."""
    series = make_ct_chest(ChestPhantom(seed=5, shape=(slices, size, size), accession_number="BENCH-1"))
    files = {}
    for uid, image in zip(sop_instance_uids(series), datasets(series), strict=True):
        out = BytesIO()
        image.save_as(out, enforce_file_format=True)
        files[uid] = out.getvalue()
    return EncodedStudy(
        study_instance_uid=study_instance_uid(series),
        series_instance_uid=series_instance_uid(series),
        files=files,
    )


def _renumbered(uid: str, number: int) -> str:
    return f"{uid[:-_DIGITS]}{number:0{_DIGITS}d}"
