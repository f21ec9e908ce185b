# SPDX-License-Identifier: Apache-2.0
"""What must hold of an analysis and its source images before any result object is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from profiles.air.grid import ResultError
from profiles.air.model import Analysis, ResultContext
from profiles.faults import Fault

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Modality")
_SAME_IN_ALL = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID")


def check_inputs(
    analysis: Analysis, context: ResultContext, sources: Sequence[Dataset], *, mixed_frames_of_reference: bool
) -> None:
    """Refuse what cannot be encoded truthfully.

    Raises
    ------
    ResultError
        With everything found: sources that are not the images analysed, or of several patients, studies,
        series or frames of reference; masks of a wrong shape; labels that are empty, long or used twice; a
        time without zone; names that do not fit.
    """
    faults: list[Fault] = []
    if tuple(str(source.get("SOPInstanceUID", "")) for source in sources) != analysis.sop_instance_uids:
        faults.append(Fault("sources", "must be the images analysed, in the order of the masks"))
    same = _SAME_IN_ALL if mixed_frames_of_reference else (*_SAME_IN_ALL, "FrameOfReferenceUID")
    for keyword in same:
        if len({str(source.get(keyword, "")) for source in sources}) > 1:
            faults.append(Fault(f"sources.{keyword}", "must be one value in all images"))
    faults += [
        Fault(f"sources[{i}].{keyword}", "is needed")
        for i, source in enumerate(sources)
        for keyword in _NEEDED
        if not source.get(keyword)
    ]
    if context.performed_at.tzinfo is None:
        faults.append(Fault("context.performed_at", "must have a time zone"))
    algorithm = analysis.algorithm
    lengths = {
        "algorithm.manufacturer": algorithm.manufacturer,
        "algorithm.name": algorithm.name,
        "algorithm.version": algorithm.version,
        "context.device_serial_number": context.device_serial_number,
    } | {f"regions[{i}].label": region.label for i, region in enumerate(analysis.regions)}
    faults += [
        Fault(path, "must have 1 to 64 characters")
        for path, text in lengths.items()
        if not 0 < len(text) <= 64
    ]
    labels = [region.label for region in analysis.regions]
    if len(set(labels)) < len(labels):
        faults.append(Fault("regions.label", "must differ"))
    if not labels:
        faults.append(Fault("regions", "a result states at least one region, found or absent"))
    shape = (len(sources), *((sources[0].get("Rows"), sources[0].get("Columns")) if sources else (0, 0)))
    for i, region in enumerate(analysis.regions):
        if region.mask.dtype != bool or region.mask.shape != shape:
            faults.append(Fault(f"regions[{i}].mask", "must be bool of shape (images, rows, columns)"))
    if faults:
        raise ResultError(faults)
