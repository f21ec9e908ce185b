# SPDX-License-Identifier: Apache-2.0
"""What is known of a study beside the headers of its series: who sent it, and the headers of all images.

Looked at only where a rule asks for it, and then as a stream: a series may have thousands of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from profiles.dicom_json import DicomJson
from task_manager.actor import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """The header of one stored image."""

    sop_instance_uid: str
    instance_number: int | None
    attributes: DicomJson


class Acquisition(Protocol):
    """Where the evaluation of rules finds what they ask beside headers of series."""

    def sources(self, series_instance_uid: str) -> Sequence[Source]:
        """Who sent images of a series, each once."""
        ...

    def images(self, series_instance_uid: str) -> Iterable[ImageHeader]:
        """The images of a series by number, then UID."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAcquisition:
    """One held in memory: for files that were never stored, and where nothing is known."""

    sent_by: Mapping[str, Sequence[Source]] = field(default_factory=dict)
    headers: Mapping[str, Sequence[ImageHeader]] = field(default_factory=dict)

    def sources(self, series_instance_uid: str) -> Sequence[Source]:
        """Who sent images of a series, each once."""
        return self.sent_by.get(series_instance_uid, ())

    def images(self, series_instance_uid: str) -> Iterator[ImageHeader]:
        """The images of a series by number, then UID."""
        return iter(self.headers.get(series_instance_uid, ()))


NOTHING_KNOWN = KeptAcquisition()
