# SPDX-License-Identifier: Apache-2.0
"""The groups, numbers and statements in the content of a stored TID 1500 report.

Part of :mod:`profiles.air.read`, which says what is demanded and what is tolerated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.items import (
    child_code,
    child_text,
    child_uid,
    children,
    code,
    is_named,
    items,
    number,
    text,
    whole_number,
)
from profiles.air.model import ReportedEvaluation, ReportedGroup, ReportedMeasurement
from profiles.codes import Code
from profiles.faults import Fault

_NOT_EVALUATIONS = (
    codes.FINDING,
    codes.FINDING_CATEGORY,
    codes.FINDING_SITE,
    codes.LATERALITY,
    codes.MEASUREMENT_METHOD,
    codes.TOPOGRAPHICAL_MODIFIER,
    codes.GEOMETRIC_PURPOSE_OF_REGION,
    codes.ACTIVITY_SESSION,
    codes.ALGORITHM_FAMILY,
    codes.ALGORITHM_NAME,
)
_PRESENCE = (codes.PRESENT, codes.ABSENT, codes.UNDETERMINED)


class GroupReader:
    """Reads groups and collects faults with their paths.

    Parameters
    ----------
    faults
        Receives a fault for every number or evaluation that lacks what results are made of.
    """

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def groups(self, dataset: Dataset) -> Iterator[ReportedGroup]:
        """Every measurement group, derived measurement and evaluation of a report, in its order."""
        for i, container in enumerate(items(dataset, "ContentSequence")):
            for j, item in enumerate(items(container, "ContentSequence")):
                path = f"ContentSequence[{i}].ContentSequence[{j}]"
                kind = text(item, "ValueType")
                if is_named(container, codes.IMAGING_MEASUREMENTS):
                    if kind == "CONTAINER" and is_named(item, codes.MEASUREMENT_GROUP):
                        yield self._group(item, path)
                elif is_named(container, codes.DERIVED_IMAGING_MEASUREMENTS):
                    if kind == "NUM":
                        yield _statement(measurements=self._measurements([(path, item)]))
                elif is_named(container, codes.QUALITATIVE_EVALUATIONS) and kind == "CODE":
                    yield from self._evaluated(item, path)

    def _group(self, item: Dataset, path: str) -> ReportedGroup:
        content = [
            (f"{path}.ContentSequence[{k}]", child) for k, child in enumerate(items(item, "ContentSequence"))
        ]
        numbers = [(where, child) for where, child in content if text(child, "ValueType") == "NUM"]
        site = next(
            (site for holder in (item, *(child for _, child in numbers))
             for site in children(holder, codes.FINDING_SITE, "CODE")), Dataset(),
        )  # fmt: skip
        segmentation, segment = _segment(item)
        return ReportedGroup(
            observation_uid=text(item, "ObservationUID"),
            tracking_identifier=child_text(item, codes.TRACKING_IDENTIFIER),
            tracking_uid=child_uid(item, codes.TRACKING_UNIQUE_IDENTIFIER),
            finding=child_code(item, codes.FINDING),
            finding_category=child_code(item, codes.FINDING_CATEGORY),
            finding_site=code(site, "ConceptCodeSequence"),
            laterality=child_code(site, codes.LATERALITY) or child_code(item, codes.LATERALITY),
            segmentation_sop_instance_uid=segmentation,
            segment_number=segment,
            measurements=self._measurements(numbers),
            evaluations=tuple(self._evaluations(content)),
        )

    def _measurements(self, numbers: Sequence[tuple[str, Dataset]]) -> tuple[ReportedMeasurement, ...]:
        found = [self._measurement(item, path) for path, item in numbers]
        return tuple(measurement for measurement in found if measurement is not None)

    def _measurement(self, item: Dataset, path: str) -> ReportedMeasurement | None:
        name = code(item, "ConceptNameCodeSequence")
        failure = code(item, "NumericValueQualifierCodeSequence")
        measured = next(iter(items(item, "MeasuredValueSequence")), Dataset())
        unit = code(measured, "MeasurementUnitsCodeSequence")
        value = number(measured, "FloatingPointValue")
        if value is None:
            value = number(measured, "NumericValue")
        if name is None:
            self._faults.append(Fault(f"{path}.ConceptNameCodeSequence", "a number needs a name"))
        if value is None and failure is None:
            self._faults.append(Fault(f"{path}.MeasuredValueSequence", "a number needs a value or a reason"))
        if value is not None and unit is None:
            self._faults.append(Fault(f"{path}.MeasuredValueSequence[0]", "a value needs a unit"))
        if name is None:
            return None
        return ReportedMeasurement(
            observation_uid=text(item, "ObservationUID"),
            name=name,
            value=value,
            unit=unit or codes.NO_UNITS,
            derivation=child_code(item, codes.DERIVATION),
            method=child_code(item, codes.MEASUREMENT_METHOD),
            failure=failure if value is None else None,
        )

    def _evaluations(self, content: Sequence[tuple[str, Dataset]]) -> Iterator[ReportedEvaluation]:
        for path, item in content:
            if text(item, "ValueType") != "CODE" or text(item, "RelationshipType") != "CONTAINS":
                continue
            if any(is_named(item, known) for known in _NOT_EVALUATIONS):
                continue
            name, value = code(item, "ConceptNameCodeSequence"), code(item, "ConceptCodeSequence")
            if name is None or value is None:
                self._faults.append(Fault(path, "an evaluation needs a name and a value"))
            else:
                yield ReportedEvaluation(observation_uid=text(item, "ObservationUID"), name=name, value=value)

    def _evaluated(self, item: Dataset, path: str) -> Iterator[ReportedGroup]:
        for evaluation in self._evaluations([(path, item)]):
            laterality = child_code(item, codes.LATERALITY)
            if any(evaluation.value.same_concept(known) for known in _PRESENCE):
                stated = ReportedEvaluation(
                    observation_uid=evaluation.observation_uid,
                    name=codes.PRESENCE_OF_PROPERTY,
                    value=evaluation.value,
                )
                yield _statement(finding=evaluation.name, laterality=laterality, evaluations=(stated,))
            else:
                yield _statement(laterality=laterality, evaluations=(evaluation,))


def _statement(
    finding: Code | None = None,
    laterality: Code | None = None,
    measurements: tuple[ReportedMeasurement, ...] = (),
    evaluations: tuple[ReportedEvaluation, ...] = (),
) -> ReportedGroup:
    return ReportedGroup(
        observation_uid="",
        tracking_identifier="",
        tracking_uid="",
        finding=finding,
        finding_category=None,
        finding_site=None,
        laterality=laterality,
        segmentation_sop_instance_uid="",
        segment_number=None,
        measurements=measurements,
        evaluations=evaluations,
    )


def _segment(group: Dataset) -> tuple[str, int | None]:
    for name in (codes.REFERENCED_SEGMENT, codes.REFERENCED_SEGMENTATION_FRAME):
        for image in children(group, name, "IMAGE"):
            for reference in items(image, "ReferencedSOPSequence"):
                return text(reference, "ReferencedSOPInstanceUID"), whole_number(
                    reference, "ReferencedSegmentNumber"
                )
    return "", None
