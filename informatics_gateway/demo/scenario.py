# SPDX-License-Identifier: Apache-2.0
"""What the demonstration does: one order and one CT study in, as a RIS and a scanner would send them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from informatics_gateway.demo.system import DemoAddresses
from informatics_gateway.dimse.send import send_folder
from informatics_gateway.hl7.sender import send_message
from profiles import dicom_json
from profiles.codes import Code
from profiles.dicom_json import DicomJson
from profiles.faults import Fault
from profiles.hl7.order_text import order_message
from profiles.order import Order, OrderControl, Priority
from task_manager.errors import InputError, RetryableDeliveryError
from task_manager.outcome import Refused
from task_manager.study.header import read_header

_PHANTOM_SLICES = 64
_PHANTOM_SIZE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStudy:
    """The study to send.

    Attributes
    ----------
    attributes
        Header of one of its images.
    truth
        Known volumes of a phantom in mL, by region label; empty for a person's own study.
    """

    folder: Path
    paths: tuple[Path, ...]
    attributes: DicomJson
    truth: dict[str, float]
    truth_masks: Path | None

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID."""
        return dicom_json.text(self.attributes, "StudyInstanceUID")


def make_phantom(folder: Path) -> DemoStudy:
    """A CT chest phantom with known lung volumes, written to `folder`."""
    masks = folder.parent / "truth.npz"
    command = [sys.executable, "-m", "conformance.phantoms", "ct-chest", "--out", str(folder)]
    command += ["--slices", str(_PHANTOM_SLICES), "--size", str(_PHANTOM_SIZE), "--truth-masks", str(masks)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    study = own_study(folder)
    return DemoStudy(
        folder=folder,
        paths=study.paths,
        attributes=study.attributes,
        truth={"Left lung": told["left_ml"], "Right lung": told["right_ml"], "Lungs": told["total_ml"]},
        truth_masks=masks,
    )


def own_study(folder: Path) -> DemoStudy:
    """The study in a person's own folder.

    Raises
    ------
    InputError
        If the folder holds no DICOM instance, or several studies.
    """
    headers = {path: read_header(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    readable = {path: header for path, header in headers.items() if not isinstance(header, Refused)}
    found = {header.study_instance_uid for header in readable.values()}
    if not found:
        raise InputError(Fault(str(folder), "holds no DICOM instance"))
    if len(found) > 1:
        raise InputError(Fault(str(folder), f"holds {len(found)} studies; name a folder with one"))
    first = next(iter(readable.values()))
    return DemoStudy(
        folder=folder, paths=tuple(readable), attributes=first.attributes, truth={}, truth_masks=None
    )


def demo_order(study: DemoStudy) -> Order:
    """The order a RIS would have sent for this study."""

    def text(keyword: str) -> str:
        return dicom_json.text(study.attributes, keyword)

    return Order(
        control=OrderControl.NEW,
        placer_order_number="PLACER-1001",
        filler_order_number="FILLER-2001",
        accession_number=text("AccessionNumber") or "DEMO-ACC-1",
        patient_id=text("PatientID") or "DEMO",
        issuer_of_patient_id=text("IssuerOfPatientID"),
        patient_name=text("PatientName"),
        patient_birth_date=text("PatientBirthDate"),
        patient_sex=text("PatientSex"),
        requested_procedure_id="RP-1001",
        requested_procedure_description="CT Chest",
        requested_procedure_code=Code("24627-2", "LN", "CT Chest"),
        study_instance_uid=study.study_instance_uid,
        modality="CT",
        priority=Priority.HIGH,
    )


def send_order(order: Order, addresses: DemoAddresses, now: datetime) -> str:
    """Send the order over MLLP; the acknowledgement code.

    Raises
    ------
    RetryableDeliveryError
        If there is no answer.
    """
    raw = order_message(order, control_id=f"DEMO{now:%Y%m%d%H%M%S}", sent_at=now)
    door = addresses.airway["hl7"]
    answer = send_message(door["host"], door["port"], raw).decode("utf-8", "replace")
    for segment in answer.split("\r"):
        if segment.startswith("MSA|"):
            return segment.split("|")[1]
    raise RetryableDeliveryError("the answer to the order holds no MSA segment")


def send_study(study: DemoStudy, addresses: DemoAddresses, progress: Callable[[int, int], None]) -> int:
    """C-STORE the study; how many instances were taken."""
    door = addresses.airway["dicom"]
    summary = send_folder(
        study.paths,
        host=door["host"],
        port=door["port"],
        called_ae_title=door["ae_title"],
        calling_ae_title="CT_SCANNER",
        progress=progress,
    )
    return summary.sent
