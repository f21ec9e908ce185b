# SPDX-License-Identifier: Apache-2.0
"""Studies to send: one small chest phantom under many identities, each with the order that asked for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pydicom import dcmread

from conformance.peers.dcmtk import ToolResult
from conformance.phantoms import ChestPhantom, PhantomSeries, make_ct_chest, write_series
from profiles.codes import Code
from profiles.order import Order, OrderControl, Priority

SLICES = 24
_META_START = 132
_SENT = re.compile(r"Sending file: (\S+)|Received Store Response \(([^)]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentStudy:
    """A study on disk and its order.

    Attributes
    ----------
    files
        SOP Instance UID to file, in slice order.
    """

    folder: Path
    study_instance_uid: str
    files: dict[str, Path]
    order: Order

    @property
    def accession_number(self) -> str:
        """Accession number of the order and of the images."""
        return self.order.accession_number

    @property
    def patient_id(self) -> str:
        """Patient of the order and of the images."""
        return self.order.patient_id


@cache
def _chest() -> PhantomSeries:
    return make_ct_chest(ChestPhantom(seed=3, shape=(SLICES, 96, 96)))


def make_study(
    folder: Path, name: str, *, patient_name: str = "Doe^Jane", patient_id: str = "", description: str = ""
) -> SentStudy:
    """Write a study of its own identity below `folder`; `name` makes its numbers, at most eight letters."""
    spec = replace(
        _chest().spec,
        patient_name=patient_name,
        patient_id=patient_id or f"PAT-{name}",
        issuer_of_patient_id="HOSP",
        accession_number=f"ACC-{name}",
        study_id=name,
        referring_physician_name=patient_name if not patient_name.isascii() else "",
    )
    if description:
        spec = replace(spec, study_description=description)
    paths = write_series(replace(_chest(), spec=spec), folder / name)
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    study_instance_uid = str(headers[0].StudyInstanceUID)
    return SentStudy(
        folder=folder / name,
        study_instance_uid=study_instance_uid,
        files={str(header.SOPInstanceUID): path for header, path in zip(headers, paths, strict=True)},
        order=Order(
            control=OrderControl.NEW,
            placer_order_number=f"PL-{name}",
            filler_order_number=f"FI-{name}",
            accession_number=spec.accession_number,
            patient_id=spec.patient_id,
            issuer_of_patient_id=spec.issuer_of_patient_id,
            patient_name=patient_name,
            patient_birth_date="19700101",
            patient_sex="O",
            requested_procedure_id=f"RP-{name}",
            requested_procedure_description="CT chest",
            requested_procedure_code=Code("24627-2", "LN", "CT Chest"),
            study_instance_uid=study_instance_uid,
            priority=Priority.MEDIUM,
        ),
    )


def acknowledged_files(result: ToolResult) -> list[Path]:
    """The files that ``storescu`` was answered Success for."""
    files: list[Path] = []
    sending = ""
    for sent, status in _SENT.findall(result.output):
        if sent:
            sending = sent
        elif status == "Success":
            files.append(Path(sending))
    return files


def encoded_data_set(path: Path) -> bytes:
    """The bytes of a Part 10 file after its file meta information."""
    content = path.read_bytes()
    group_length = int.from_bytes(content[_META_START + 8 : _META_START + 12], "little")
    return content[_META_START + 12 + group_length :]
