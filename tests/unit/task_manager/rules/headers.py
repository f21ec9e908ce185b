# SPDX-License-Identifier: Apache-2.0
"""Generated headers of whole studies, as a gateway would have read them on arrival."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from profiles.dicom_json import DicomJson, element, merged
from profiles.order import Order
from task_manager.actor import Source
from task_manager.rules.dry_run import gathered_studies
from task_manager.rules.evaluate import evaluate
from task_manager.rules.explain import RuleExplanation
from task_manager.rules.model import RuleSet
from task_manager.study.model import InstanceHeader
from tests.unit.task_manager.rules.studies import NOW

STUDY_UID = "1.2.3"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SCANNER = Source(door="dicom", calling="CT1", called="AIRWAY")


def header(series: int, number: int, *more: DicomJson, **attributes: Any) -> InstanceHeader:
    """One instance; `attributes` by keyword, a tuple has several values."""
    found = {"SeriesNumber": series, "InstanceNumber": number, **attributes}
    parts = [
        element(keyword, *(value if isinstance(value, tuple) else (value,)))
        for keyword, value in found.items()
        if value is not None
    ]
    return InstanceHeader(
        sop_instance_uid=f"{STUDY_UID}.{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        series_instance_uid=f"{STUDY_UID}.{series}",
        study_instance_uid=STUDY_UID,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        attributes=merged([*parts, *more]),
    )


def stack(
    series: int,
    count: int,
    spacing: float,
    *more: DicomJson,
    orientation: tuple[float, ...] = AXIAL,
    without: Iterable[int] = (),
    **attributes: Any,
) -> list[InstanceHeader]:
    """Parallel slices at equal distances, but for those `without`."""
    axis = {AXIAL: 2, CORONAL: 1, SAGITTAL: 0}[orientation]
    made = []
    for number in range(count):
        if number in without:
            continue
        position = [0.0, 0.0, 0.0]
        position[axis] = number * spacing
        made.append(
            header(
                series,
                number + 1,
                *more,
                ImageOrientationPatient=orientation,
                ImagePositionPatient=tuple(position),
                Rows=256,
                Columns=256,
                PixelSpacing=(0.5, 0.5),
                **attributes,
            )
        )
    return made


def explained_headers(
    rules: RuleSet, headers: Iterable[InstanceHeader], order: Order | None = None
) -> tuple[RuleExplanation, ...]:
    """What rules make of one study of headers."""
    (one,) = gathered_studies(headers, SCANNER, NOW)
    return evaluate(rules, one.study, order, one.acquisition)
