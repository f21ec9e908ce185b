# SPDX-License-Identifier: Apache-2.0
"""A real stored report of a phantom, and the shipment that carries it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from conformance.phantoms.chest import ChestPhantom, make_ct_chest
from conformance.phantoms.ct_files import datasets, sop_instance_uids
from profiles import codes
from profiles.air.model import AlgorithmIdentity, Analysis, Measurement, Region, ResultContext
from profiles.air.seg import encode_segmentation
from profiles.air.sr import encode_report
from profiles.dicom_json import DicomJson
from task_manager.ports import Shipment
from task_manager.study.model import Instance

NOW = datetime(2026, 5, 4, 9, 15, 27, tzinfo=UTC)
ALGORITHM = AlgorithmIdentity(
    manufacturer="Airway",
    name="lung-ct",
    version="0.1.0",
    weights_sha256="ab" * 32,
    parameters={"label": "demonstration, not for clinical use"},
)


def write_report(folder: Path) -> tuple[Path, Path]:
    """A segmentation and the report on it: one lung measured, one number failed, the other lung absent."""
    phantom = make_ct_chest(ChestPhantom(seed=3, shape=(8, 48, 48), spacing_mm=None))
    sources = list(datasets(phantom))
    for source in sources:
        source.SpecificCharacterSet = "ISO_IR 192"
        source.PatientName = "Müller^Jörg"
    measurements = (
        Measurement(name=codes.VOLUME, value=2310.257, unit=codes.MILLILITRE),
        Measurement(
            name=codes.MEAN_ATTENUATION, value=-812.4, unit=codes.HOUNSFIELD_UNIT, derivation=codes.MEAN
        ),
        Measurement(
            name=codes.EMPHYSEMA_INDEX, value=None, unit=codes.PERCENT, failure=codes.CALCULATION_FAILURE
        ),
    )
    lung = {"category": codes.ANATOMICAL_STRUCTURE, "type": codes.LUNG}
    analysis = Analysis(
        algorithm=ALGORITHM,
        sop_instance_uids=sop_instance_uids(phantom),
        regions=(
            Region(
                mask=phantom.left, label="Left lung", laterality=codes.LEFT, measurements=measurements, **lung
            ),
            Region(mask=np.zeros_like(phantom.right), label="Right lung", laterality=codes.RIGHT, **lung),
        ),
    )
    context = ResultContext(
        workitem_uid="2.25.77", performed_at=NOW, station_name="GPU1", accession_number="ACC-77"
    )
    segmentation = encode_segmentation(analysis, context, sources)
    assert segmentation is not None
    report = encode_report(analysis, context, sources, segmentation)
    paths = folder / "seg.dcm", folder / "sr.dcm"
    segmentation.save_as(paths[0], enforce_file_format=True)
    report.save_as(paths[1], enforce_file_format=True)
    return paths


def shipment(workitem: DicomJson, *paths: tuple[str, Path]) -> Shipment:
    """A shipment of files, each with its SOP class."""
    instances = tuple(
        Instance(
            sop_instance_uid=f"2.25.{100 + number}",
            sop_class_uid=sop_class_uid,
            series_instance_uid="2.25.99",
            study_instance_uid="2.25.98",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            instance_number=1,
            path=path.name,
            size=path.stat().st_size if path.exists() else 1,
            received_at=NOW,
            attributes={},
        )
        for number, (sop_class_uid, path) in enumerate(paths)
    )
    return Shipment(
        destination="EMR",
        workitem_uid="2.25.77",
        workitem=workitem,
        instances=instances,
        paths=tuple(path for _, path in paths),
        order=None,
    )
