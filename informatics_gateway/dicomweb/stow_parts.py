# SPDX-License-Identifier: Apache-2.0
"""The parts of a store request, taken while they come: instances as files, or data sets and bulk data.

A body is never held: instances and bulk data go to staged objects, metadata into memory up to a limit.
"""

from __future__ import annotations

from typing import Protocol

from informatics_gateway.dicomweb.media import DICOM, DICOM_JSON, DICOM_XML, OCTET_STREAM, parse_media_type
from informatics_gateway.dicomweb.stow_commit import Committer
from informatics_gateway.dicomweb.stow_metadata import BulkPart, InstanceBuilder, MetadataError, read_metadata
from profiles.multipart import MultipartError, MultipartParser, PartBegan, PartData, PartEnded
from task_manager.errors import StoreError
from task_manager.outcome import RefusalCode
from task_manager.ports import StagedObject

MAX_METADATA_BYTES = 32 * 1024**2
MAX_LOCATION = 4096


class PartTaker(Protocol):
    """Takes the parts of one body."""

    @property
    def holds_any(self) -> bool:
        """Whether something is staged that is not being committed."""

    def begin(self, headers: dict[str, str]) -> None:
        """A part begins."""

    def append(self, data: bytes) -> None:
        """Some of its bytes.

        Raises
        ------
        MultipartError
            If it is too large.
        """

    def end(self) -> None:
        """It is complete."""

    def finish(self) -> None:
        """All parts have come."""

    def discard(self) -> None:
        """Drop what is not committed."""


class BodyReader:
    """Feeds the bytes of a body to a taker of parts.

    Parameters
    ----------
    parser
        None for a body that is one part without a frame around it.
    content_type
        Of that one part.
    """

    def __init__(
        self, taker: PartTaker, parser: MultipartParser | None, content_type: str, max_part_bytes: int
    ) -> None:
        self._taker = taker
        self._parser = parser
        self._content_type = content_type
        self._max_part_bytes = max_part_bytes
        self._size = -1

    def feed(self, data: bytes) -> None:
        """Take some bytes of the body.

        Raises
        ------
        MultipartError
            If the body is malformed or too large.
        """
        if self._parser is None:
            if self._size < 0:
                self._size = 0
                self._taker.begin({"content-type": self._content_type})
            self._size += len(data)
            if self._size > self._max_part_bytes:
                raise MultipartError(f"an instance of more than {self._max_part_bytes} bytes", too_large=True)
            self._taker.append(data)
            return
        for event in self._parser.feed(data):
            match event:
                case PartBegan(headers):
                    self._taker.begin(headers)
                case PartData(body):
                    self._taker.append(body)
                case PartEnded():
                    self._taker.end()

    def finish(self, data: bytes) -> None:
        """Take the last bytes of the body.

        Raises
        ------
        MultipartError
            If it is malformed or too large, or ended too early.
        """
        if data:
            self.feed(data)
        if self._parser is not None:
            self._parser.close()
        elif self._size >= 0:
            self._taker.end()
        self._taker.finish()


class InstanceTaker:
    """Parts that are Part 10 files."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._staged: StagedObject | None = None
        self._failed = RefusalCode.NOT_STORABLE

    @property
    def holds_any(self) -> bool:
        """Whether an instance is being received."""
        return self._staged is not None

    def begin(self, headers: dict[str, str]) -> None:
        """A part begins; one of another media type is no instance."""
        if parse_media_type(headers.get("content-type", DICOM)).name != DICOM:
            self._failed = RefusalCode.NOT_STORABLE
            return
        self._staged = self._committer.stage()
        self._failed = RefusalCode.OUT_OF_RESOURCES

    def append(self, data: bytes) -> None:
        """Write to the staged object; without room, the part is read to its end and fails."""
        if self._staged is None:
            return
        try:
            self._staged.write(data)
        except StoreError as error:
            self._committer.no_room(error)
            self.discard()

    def end(self) -> None:
        """Commit the instance."""
        staged, self._staged = self._staged, None
        if staged is None:
            self._committer.fail(self._failed)
        else:
            self._committer.commit(staged)

    def finish(self) -> None:
        """Wait for all commits."""
        self._committer.finish()

    def discard(self) -> None:
        """Drop the part that is being received."""
        if self._staged is not None:
            self._staged.discard()
            self._staged = None


class MetadataTaker:
    """Parts that are data sets in DICOM JSON or XML, and their bulk data (PS3.18 10.5.2)."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._metadata = bytearray()
        self._metadata_type = ""
        self._documents: list[tuple[str, bytes]] = []
        self._size = 0
        self._bulk: dict[str, list[BulkPart]] = {}
        self._staged: StagedObject | None = None
        self._headers: dict[str, str] = {}
        self._full = False

    @property
    def holds_any(self) -> bool:
        """Whether bulk data are staged."""
        return self._staged is not None or bool(self._bulk)

    def begin(self, headers: dict[str, str]) -> None:
        """A part begins: metadata by its media type, bulk data otherwise."""
        kind = parse_media_type(headers.get("content-type", DICOM_JSON)).name
        self._headers = headers
        self._metadata_type = kind if kind in (DICOM_JSON, DICOM_XML) else ""
        if not self._metadata_type:
            self._staged = self._committer.stage()
            self._full |= self._staged is None

    def append(self, data: bytes) -> None:
        """Keep metadata, write bulk data.

        Raises
        ------
        MultipartError
            If the metadata are too large.
        """
        if self._metadata_type:
            self._size += len(data)
            if self._size > MAX_METADATA_BYTES:
                raise MultipartError(f"metadata of more than {MAX_METADATA_BYTES} bytes", too_large=True)
            self._metadata += data
            return
        if self._staged is None:
            return
        try:
            self._staged.write(data)
        except StoreError as error:
            self._committer.no_room(error)
            self._staged.discard()
            self._staged, self._full = None, True

    def end(self) -> None:
        """Keep the part until all have come."""
        if self._metadata_type:
            self._documents.append((self._metadata_type, bytes(self._metadata)))
            self._metadata.clear()
            return
        staged, self._staged = self._staged, None
        if staged is None:
            return
        location = self._headers.get("content-location", "")[:MAX_LOCATION]
        kind = parse_media_type(self._headers.get("content-type", OCTET_STREAM))
        self._bulk.setdefault(location, []).append(BulkPart(media_type=kind, staged=staged))

    def finish(self) -> None:
        """Make an instance of each data set and commit it.

        Raises
        ------
        MultipartError
            If the metadata cannot be read, or there are none.
        """
        try:
            data_sets = [one for kind, document in self._documents for one in read_metadata(kind, document)]
        except MetadataError as error:
            raise MultipartError(str(error)) from error
        builder = InstanceBuilder(self._bulk)
        for data_set in data_sets:
            uids = builder.uids(data_set)
            staged = None if self._full else self._committer.stage()
            if staged is None:
                self._committer.fail(RefusalCode.OUT_OF_RESOURCES, *uids)
                continue
            try:
                builder.write(data_set, staged)
            except StoreError as error:
                staged.discard()
                self._committer.no_room(error)
                self._committer.fail(RefusalCode.OUT_OF_RESOURCES, *uids)
            except MetadataError:
                staged.discard()
                self._committer.fail(RefusalCode.NOT_STORABLE, *uids)
            else:
                self._committer.commit(staged)
        self._committer.finish()

    def discard(self) -> None:
        """Drop everything staged."""
        if self._staged is not None:
            self._staged.discard()
        for parts in self._bulk.values():
            for part in parts:
                part.staged.discard()
        self._bulk.clear()
