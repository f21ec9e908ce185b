# SPDX-License-Identifier: Apache-2.0
"""Studies, series and orders as literal values for the tests of rules."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pydicom import dcmread

from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, merged
from profiles.order import Order, OrderControl, Priority
from task_manager.rules.evaluate import evaluate
from task_manager.rules.explain import RuleExplanation
from task_manager.rules.model import Verdict
from task_manager.rules.parse import parse_rules
from task_manager.study.assembly import study_attributes
from task_manager.study.model import Series, Study, StudyState

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)

PRIVATE: DicomJson = {
    "00290010": {"vr": "LO", "Value": ["SIEMENS CSA HEADER"]},
    "00290011": {"vr": "LO", "Value": ["SIEMENS MEDCOM HEADER2"]},
    "00291008": {"vr": "CS", "Value": ["IMAGE NUM 4"]},
    "00291160": {"vr": "LO", "Value": ["com"]},
    "00291161": {"vr": "UN", "InlineBinary": "MTIuNQ=="},  # 12.5
    "00291162": {"vr": "UN", "InlineBinary": "AAEC/w=="},
    "00290012": {"vr": "LO", "Value": ["SIEMENS CSA HEADER"]},  # a block more of the same creator
    "00291218": {"vr": "LO", "Value": ["more"]},
}

CODED: DicomJson = {
    "00081032": {
        "vr": "SQ",
        "Value": [
            Code("CTCH", "L", "CT Chest").to_json(),
            Code("24627-2", "LN", "CT Chest").to_json(),
        ],
    }
}

CT_SERIES = merged(
    [
        element("Modality", "CT"),
        element("ImageType", "ORIGINAL", "PRIMARY", "AXIAL"),
        element("BodyPartExamined", "CHEST"),
        element("SeriesDescription", "Thorax  1.0 B70f"),
        element("SeriesNumber", 4),
        element("SliceThickness", 1.25),
        element("KVP", "120.00"),
        element("ProtocolName"),
        element("AcquisitionDateTime", "20240101120000.5+0100"),
        element("ContentTime", "093000"),
        PRIVATE,
    ]
)

STUDY_LEVEL = merged(
    [
        element("PatientName", "Secret^Sam"),
        element("PatientID", "P-4711"),
        element("PatientAge", "045Y"),
        element("PatientSex", "F"),
        element("StudyDate", "20240131"),
        element("StudyDescription", "CT CHEST W/O"),
        element("ReferringPhysicianName", "Hidden^Henry"),
        CODED,
    ]
)

ORDER = Order(
    control=OrderControl.NEW,
    placer_order_number="PL1",
    filler_order_number="FI1",
    accession_number="A1",
    patient_id="P-4711",
    patient_name="Secret^Sam",
    requested_procedure_code=Code("71250", "C4", "CT thorax without contrast"),
    requested_procedure_description="CT thorax",
    priority=Priority.HIGH,
    scheduled_at=NOW,
)


def series(uid: str = "1.2.3.1", attributes: DicomJson = CT_SERIES, count: int = 30) -> Series:
    return Series(
        series_instance_uid=uid,
        attributes=attributes,
        sop_class_uids=("1.2.840.10008.5.1.4.1.1.2",),
        number_of_instances=count,
    )


def study(*of_series: Series, attributes: DicomJson = STUDY_LEVEL) -> Study:
    return Study(
        study_instance_uid="1.2.3",
        state=StudyState.COMPLETE,
        revision=1,
        attributes=attributes,
        series=of_series or (series(),),
        first_received_at=NOW,
        last_received_at=NOW,
        deadline_at=None,
    )


def rule_text(when: str = "", series_text: str = "{name: any}") -> str:
    """A file with one rule; `when` and `series_text` are YAML flow text."""
    lines = ["rules:", "  - name: r", "    app: a"]
    if when:
        lines.append(f"    when: {when}")
    lines += ["    series:", f"      - {series_text}"]
    return "\n".join(lines)


def explained(
    when: str = "", series_text: str = "{name: any}", of: Study | None = None, order: Order | None = None
) -> RuleExplanation:
    (one,) = evaluate(parse_rules(rule_text(when, series_text), "t.yaml"), of or study(), order)
    return one


def verdict_of(when: str, of: Study | None = None, order: Order | None = None) -> Verdict:
    return explained(when, of=of, order=order).when.verdict


def real_studies(folder: Path) -> dict[str, Study]:
    """Study Instance UID to study, of every DICOM file below `folder`."""
    found: dict[str, dict[str, tuple[DicomJson, str, int]]] = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        if path.read_bytes()[128:132] != b"DICM" or path.name.startswith("DICOMDIR"):
            continue
        header = dcmread(path, stop_before_pixels=True)
        attributes = json.loads(header.to_json(suppress_invalid_tags=True))
        of_study = found.setdefault(str(header.StudyInstanceUID), {})
        first, sop_class, count = of_study.get(
            str(header.SeriesInstanceUID), (attributes, str(header.SOPClassUID), 0)
        )
        of_study[str(header.SeriesInstanceUID)] = (first, sop_class, count + 1)
    return {
        uid: Study(
            study_instance_uid=uid,
            state=StudyState.COMPLETE,
            revision=1,
            attributes=study_attributes(next(iter(of_study.values()))[0]),
            series=tuple(
                Series(
                    series_instance_uid=series_uid,
                    attributes=first,
                    sop_class_uids=(sop_class,),
                    number_of_instances=count,
                )
                for series_uid, (first, sop_class, count) in of_study.items()
            ),
            first_received_at=NOW,
            last_received_at=NOW,
            deadline_at=None,
        )
        for uid, of_study in found.items()
    }
