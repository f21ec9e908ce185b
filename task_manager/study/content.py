# SPDX-License-Identifier: Apache-2.0
"""A stored instance as DICOM JSON, whole but for bulk data, and where its bulk data lie in the file.

What arrives is read by ``header.py``, which keeps less; here files are read that were accepted before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from profiles.dicom_json import DicomJson
from task_manager.study.elements import ElementReader, KnownElements, LeftOut, Limits
from task_manager.study.header import open_data_set

UNREADABLE = (ValueError, IndexError, struct.error, zlib.error)
"""What reading a file raises whose bytes are not those of a data set."""

_LIMITS = Limits(value=256 * 1024, binary=1024, sequence=32 * 1024**2, kept=32 * 1024**2)
_NOTHING_KEPT = Limits(value=0, binary=0, sequence=_LIMITS.sequence, kept=_LIMITS.kept)


class ContentReader:
    """Reads instances that have much in common, such as those of a series, faster than one by one."""

    def __init__(self) -> None:
        self._known: KnownElements = {}

    def read(self, path: Path, bulk_address: Callable[[str], str]) -> DicomJson:
        """The data set at `path` in the DICOM JSON model (PS3.18 F.2); not to be changed.

        Pixel data, binary values over 1 KiB and others over 256 KiB become a ``BulkDataURI``.

        Parameters
        ----------
        bulk_address
            Makes the address of a value from its path; see :func:`find_bulk`.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError, IndexError, struct.error, zlib.error
            If its data set cannot be followed; see :data:`UNREADABLE`.
        """

        def stand_in(left_out: LeftOut) -> DicomJson:
            return {"vr": left_out.vr, "BulkDataURI": bulk_address(left_out.path)}

        with open_data_set(path) as encoded:
            return ElementReader(
                encoded.data,
                explicit=encoded.explicit,
                little_endian=encoded.little_endian,
                limits=_LIMITS,
                stand_in=stand_in,
                known=self._known,
            ).read(encoded.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkValue:
    """Where one value is.

    Attributes
    ----------
    start, end
        In the file, half-open; in `inflated` where that is not None.
    encapsulated
        Whether it is fragments in items.
    inflated
        The data set, for a file that holds it deflated.
    """

    vr: str
    start: int
    end: int
    encapsulated: bool
    little_endian: bool
    transfer_syntax_uid: str
    inflated: bytes | None


def find_bulk(path: Path, where: str) -> BulkValue | None:
    """The value at `where` in the file at `path`; None if it has none there.

    Parameters
    ----------
    where
        Tag as eight hexadecimal digits; within sequences ``tag/item number/tag``.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError, IndexError, struct.error, zlib.error
        If its data set cannot be followed.
    """
    found: list[LeftOut] = []

    def look(left_out: LeftOut) -> None:
        if left_out.path == where:
            found.append(left_out)

    with open_data_set(path) as encoded:
        ElementReader(
            encoded.data,
            explicit=encoded.explicit,
            little_endian=encoded.little_endian,
            limits=_NOTHING_KEPT,
            stand_in=look,
        ).read(encoded.start)
        if not found:
            return None
        value = found[0]
        return BulkValue(
            vr=value.vr,
            start=value.start,
            end=value.end,
            encapsulated=value.encapsulated,
            little_endian=value.little_endian,
            transfer_syntax_uid=encoded.transfer_syntax_uid,
            inflated=encoded.data if isinstance(encoded.data, bytes) else None,
        )
