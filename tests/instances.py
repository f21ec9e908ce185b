# SPDX-License-Identifier: Apache-2.0
"""Small DICOM instances, and an intake and archive over a folder, for tests of the doors."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from profiles.dicom_json import DicomJson, text
from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import Shipment, StagedObject
from task_manager.store.objects import FileObjectStore
from task_manager.study.header import read_header
from task_manager.study.model import Instance
from task_manager.study.query import HoldingsQuery, fits

STUDY = "1.2.826.0.1.3680043.8.498.7"
SERIES = f"{STUDY}.1"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ct_data_set(number: int = 1, *, study: str = STUDY, pixels: int = 512, **changes: Any) -> Dataset:
    """A CT image of `pixels` bytes of pixel data; `changes` set attributes by keyword, None deletes."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = f"{study}.1.{number}"
    image.StudyInstanceUID = study
    image.SeriesInstanceUID = f"{study}.1"
    image.StudyDate = "20260301"
    image.Modality = "CT"
    image.PatientName = "Müller^Jörg"
    image.PatientID = "P1"
    image.AccessionNumber = "A1"
    image.InstanceNumber = number
    image.Rows = 16
    image.Columns = min(pixels // 32, 65535)
    image.BitsAllocated = 16
    image.BitsStored = 12
    image.HighBit = 11
    image.PixelRepresentation = 0
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.RescaleSlope = "1"
    for keyword, value in changes.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.add_new(0x7FE00010, "OW", bytes(range(256)) * (pixels // 256))
    return image


def part10(image: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The Part 10 file of `image`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = image.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = image.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = "1.2.3.4"
    image.file_meta = meta
    file = io.BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def ct(number: int = 1, **changes: Any) -> bytes:
    """The Part 10 file of :func:`ct_data_set`."""
    return part10(ct_data_set(number, **changes))


def data_set_bytes(file: bytes) -> bytes:
    """What follows the file meta information of a Part 10 file."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


class FolderIntake:
    """Keeps instances in a real object store and remembers them; implements intake and archive.

    `broken` makes the store fail as a full disk does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FileObjectStore(folder)
        self.instances: list[Instance] = []
        self.actors: list[Actor] = []
        self.broken: BaseException | None = None
        self._lock = threading.Lock()

    def stage(self) -> StagedObject:
        if isinstance(self.broken, StoreError):
            raise self.broken
        return self.store.stage()

    def receive_instance(
        self,
        staged: StagedObject,
        *,
        actor: Actor,
        announced_sop_class_uid: str = "",
        announced_sop_instance_uid: str = "",
        study_instance_uid: str = "",
    ) -> Accepted | Refused:
        if self.broken is not None:
            raise self.broken
        header = read_header(staged.path)
        if isinstance(header, Refused):
            staged.discard()
            return header
        if announced_sop_class_uid not in ("", header.sop_class_uid):
            staged.discard()
            return Refused(RefusalCode.SOP_CLASS_MISMATCH, (Fault("SOPClassUID", "differs"),))
        if study_instance_uid not in ("", header.study_instance_uid):
            staged.discard()
            return Refused(RefusalCode.SOP_CLASS_MISMATCH, (Fault("StudyInstanceUID", "differs"),))
        size = staged.size
        path = self.store.commit(
            staged, study_instance_uid=header.study_instance_uid, sop_instance_uid=header.sop_instance_uid
        )
        number = text(header.attributes, "InstanceNumber")
        instance = Instance(
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            series_instance_uid=header.series_instance_uid,
            study_instance_uid=header.study_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            instance_number=int(number) if number.isdigit() else None,
            path=path,
            size=size,
            received_at=NOW,
            attributes=header.attributes,
        )
        with self._lock:
            self.instances.append(instance)
            self.actors.append(actor)
        staged.settle()
        return Accepted(uid=header.sop_instance_uid)

    def find_instances(
        self, *, study_instance_uid: str = "", series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> Sequence[Instance]:
        found = [
            item
            for item in self.instances
            if study_instance_uid in ("", item.study_instance_uid)
            and series_instance_uid in ("", item.series_instance_uid)
            and sop_instance_uid in ("", item.sop_instance_uid)
        ]
        return sorted(
            found,
            key=lambda item: (item.series_instance_uid, item.instance_number or 0, item.sop_instance_uid),
        )

    def search(self, query: HoldingsQuery) -> Sequence[DicomJson]:
        level = {"study": "study_instance_uid", "series": "series_instance_uid"}.get(query.level, "")
        found = {getattr(item, level or "sop_instance_uid"): item for item in self.instances}
        kept = [item.attributes for item in found.values() if fits(query.matching, item.attributes)]
        return kept[query.offset : query.offset + query.limit]

    def open_path(self, instance: Instance) -> Path:
        return self.store.absolute(instance.path)

    def stored(self) -> dict[str, bytes]:
        """The committed files by SOP Instance UID."""
        return {item.sop_instance_uid: self.open_path(item).read_bytes() for item in self.instances}

    def leftovers(self) -> list[str]:
        """Names of what is still staged."""
        return [path.name for path in (self.folder / "incoming").iterdir()]


def shipment(folder: Path, *files: bytes) -> Shipment:
    """`files` as stored instances of one shipment, in that order."""
    intake = FolderIntake(folder)
    for content in files:
        staged = intake.stage()
        staged.write(content)
        accepted = intake.receive_instance(staged, actor=Actor(door="worker"))
        assert isinstance(accepted, Accepted)
    return Shipment(
        destination="somewhere",
        workitem_uid="1.2.3",
        workitem={},
        instances=tuple(intake.instances),
        paths=tuple(intake.open_path(item) for item in intake.instances),
        order=None,
    )
