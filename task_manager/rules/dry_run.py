# SPDX-License-Identifier: Apache-2.0
"""Headers of files as the studies that rules would see, had the files been received.

Pure; who reads the files hands the headers over. Only the first object under a UID counts, as in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from profiles.dicom_json import first
from task_manager.actor import Source
from task_manager.rules.acquisition import ImageHeader, KeptAcquisition
from task_manager.study.assembly import counts_for_assembly, study_attributes
from task_manager.study.model import InstanceHeader, Series, Study, StudyState

_LAST = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredStudy:
    """A study of files, with what rules may ask of it beside."""

    study: Study
    acquisition: KeptAcquisition


def gathered_studies(
    headers: Iterable[InstanceHeader], source: Source, arrived_at: datetime
) -> tuple[GatheredStudy, ...]:
    """The studies that `headers` belong to, in the order they are met.

    Parameters
    ----------
    source
        Who would have sent them.
    arrived_at
        Aware time at which they would have begun to arrive.
    """
    by_study: dict[str, dict[str, InstanceHeader]] = {}
    for header in headers:
        by_study.setdefault(header.study_instance_uid, {}).setdefault(header.sop_instance_uid, header)
    return tuple(_gathered(uid, list(found.values()), source, arrived_at) for uid, found in by_study.items())


def _gathered(uid: str, headers: list[InstanceHeader], source: Source, arrived_at: datetime) -> GatheredStudy:
    by_series: dict[str, list[InstanceHeader]] = {}
    for header in headers:
        by_series.setdefault(header.series_instance_uid, []).append(header)
    of_images = next((one for one in headers if counts_for_assembly(one.sop_class_uid)), headers[0])
    study = Study(
        study_instance_uid=uid,
        state=StudyState.COMPLETE,
        revision=1,
        attributes=study_attributes(of_images.attributes),
        series=tuple(
            Series(
                series_instance_uid=series_uid,
                attributes=found[0].attributes,
                sop_class_uids=tuple(sorted({one.sop_class_uid for one in found})),
                number_of_instances=len(found),
            )
            for series_uid, found in sorted(by_series.items())
        ),
        first_received_at=arrived_at,
        last_received_at=arrived_at,
        deadline_at=None,
    )
    acquisition = KeptAcquisition(
        sent_by=dict.fromkeys(by_series, (source,)),
        headers={series_uid: _images(found) for series_uid, found in by_series.items()},
    )
    return GatheredStudy(study=study, acquisition=acquisition)


def _images(headers: list[InstanceHeader]) -> list[ImageHeader]:
    images = []
    for header in headers:
        number = first(header.attributes, "InstanceNumber")
        images.append(
            ImageHeader(
                sop_instance_uid=header.sop_instance_uid,
                instance_number=number if isinstance(number, int) and abs(number) < _LAST else None,
                attributes=header.attributes,
            )
        )
    return sorted(
        images,
        key=lambda one: (
            _LAST if one.instance_number is None else one.instance_number,
            one.sop_instance_uid,
        ),
    )
