# SPDX-License-Identifier: Apache-2.0
"""Data sets as bytes, without file meta information."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset


def encoded(data_set: Dataset, *, explicit: bool) -> bytes:
    """The bytes of `data_set` in a little endian transfer syntax."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = True
    buffer.is_implicit_VR = not explicit
    write_dataset(buffer, data_set)
    return buffer.getvalue()
