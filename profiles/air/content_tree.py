# SPDX-License-Identifier: Apache-2.0
"""The content of a report: TID 1500 with observer, procedure, image library, groups, statements of absence.

Regions found are TID 1411 groups that refer to a segment. Regions looked for and not found are statements in
the Qualitative Evaluations container, because checkers match every group of a report against every group
template and so find errors in a report that mixes TID 1411 with TID 1501.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    Measurement,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from profiles import codes
from profiles.air.header import concept, result_uid, tracking_uid
from profiles.air.model import AlgorithmIdentity, Analysis, Region, ResultContext
from profiles.air.model import Measurement as MeasuredNumber
from profiles.codes import Code

_CONTAINS = RelationshipTypeValues.CONTAINS
_CONTEXT = RelationshipTypeValues.HAS_OBS_CONTEXT
_ACQUISITION = RelationshipTypeValues.HAS_ACQ_CONTEXT
_MODIFIER = RelationshipTypeValues.HAS_CONCEPT_MOD


def measurement_report(
    analysis: Analysis,
    context: ResultContext,
    sources: Sequence[Dataset],
    segmentation: Dataset | None,
    segments: dict[str, int],
) -> ContainerContentItem:
    """The root of the report's content (TID 1500).

    Numbers that could not be computed hold a placeholder, and images of the library a name, which
    :func:`profiles.air.sr.encode_report` removes.

    Parameters
    ----------
    segments
        Tracking UID to segment number of `segmentation`.
    """
    root = ContainerContentItem(
        concept(codes.IMAGING_MEASUREMENT_REPORT), is_content_continuous=False, template_id="1500"
    )
    root.ContentTemplateSequence[0].MappingResourceUID = "1.2.840.10008.8.1.1"
    content = ContentSequence()
    content.extend(LanguageOfContentItemAndDescendants(concept(codes.ENGLISH)))
    content.extend(_observer(analysis.algorithm, context))
    content.extend(_procedure_context(context, sources[0]))
    content.append(_code(codes.PROCEDURE_REPORTED, _procedure(context, sources[0]), _MODIFIER))
    content.append(_image_library(sources))
    found = [region for region in analysis.regions if region.mask.any()]
    if found and segmentation is not None:
        groups = ContentSequence(_algorithm(analysis.algorithm))
        for region in found:
            groups.extend(_group(region, analysis.algorithm, context, sources[0], segmentation, segments))
        content.append(_container(codes.IMAGING_MEASUREMENTS, groups))
    absent = [region for region in analysis.regions if not region.mask.any()]
    if absent:
        statements = ContentSequence([_absence(region, analysis.algorithm, context) for region in absent])
        content.append(_container(codes.QUALITATIVE_EVALUATIONS, statements))
    root.ContentSequence = content
    return root


def _observer(algorithm: AlgorithmIdentity, context: ResultContext) -> ObservationContext:
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=dictionary.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=algorithm.device_uid,
                name=algorithm.name,
                manufacturer_name=algorithm.manufacturer,
                model_name=algorithm.name,
                physical_location=context.station_name or None,
            ),
        )
    )


def _procedure_context(context: ResultContext, source: Dataset) -> Iterator[ContentItem]:
    yield UIDRefContentItem(
        concept(codes.PROCEDURE_STUDY_INSTANCE_UID), str(source.StudyInstanceUID), relationship_type=_CONTEXT
    )
    accession_number = context.accession_number or str(source.get("AccessionNumber") or "")
    numbers = (
        (codes.PROCEDURE_PLACER_NUMBER, context.placer_order_number),
        (codes.PROCEDURE_FILLER_NUMBER, context.filler_order_number),
        (codes.PROCEDURE_ACCESSION_NUMBER, accession_number),
    )
    for name, number in numbers:
        if number:
            yield TextContentItem(concept(name), number, relationship_type=_CONTEXT)
    if context.requested_procedure_code is not None:
        yield _code(codes.PROCEDURE_CODE, context.requested_procedure_code, _CONTEXT)


def _procedure(context: ResultContext, source: Dataset) -> Code:
    """The imaging procedure analysed, from CID 100: as ordered if it is there, else the kind of imaging.

    A hospital's own procedure code stands in the procedure context and in the request, not here: the value
    set of the row is CID 100, and checkers refuse others.
    """
    ordered = context.requested_procedure_code
    if ordered is not None and any(
        (ordered.value, ordered.scheme) == (known.value, known.scheme_designator)
        for known in dictionary.cid100.concepts.values()
    ):
        return ordered
    return codes.PROCEDURE_BY_MODALITY.get(str(source.Modality), codes.IMAGING_PROCEDURE)


def _image_library(sources: Sequence[Dataset]) -> ContainerContentItem:
    modality = str(sources[0].Modality)
    content = ContentSequence()
    content.append(_code(codes.MODALITY, Code(modality, "DCM", _modality_meaning(modality)), _ACQUISITION))
    frames = {str(source.FrameOfReferenceUID) for source in sources}
    if len(frames) == 1:
        content.append(
            UIDRefContentItem(
                concept(codes.FRAME_OF_REFERENCE_UID), frames.pop(), relationship_type=_ACQUISITION
            )
        )
    for name, keyword in ((codes.PIXEL_DATA_ROWS, "Rows"), (codes.PIXEL_DATA_COLUMNS, "Columns")):
        size = int(sources[0][keyword].value)
        content.append(
            NumContentItem(concept(name), size, concept(codes.PIXELS), relationship_type=_ACQUISITION)
        )
    content.extend(
        ImageContentItem(
            concept(codes.IMAGE_LIBRARY), str(source.SOPClassUID), str(source.SOPInstanceUID),
            relationship_type=_CONTAINS,
        )
        for source in sources
    )  # fmt: skip
    group = _container(codes.IMAGE_LIBRARY_GROUP, content)
    return _container(codes.IMAGE_LIBRARY, ContentSequence([group]))


def _modality_meaning(modality: str) -> str:
    known: dict[str, str] = {code.value: code.meaning for code in dictionary.cid29.concepts.values()}
    return known.get(modality, modality)


def _algorithm(algorithm: AlgorithmIdentity) -> AlgorithmIdentification:
    parameters = [f"{name}={value}" for name, value in sorted(algorithm.parameters.items())]
    return AlgorithmIdentification(
        name=algorithm.name, version=algorithm.version, parameters=parameters or None
    )


def _group(
    region: Region,
    algorithm: AlgorithmIdentity,
    context: ResultContext,
    source: Dataset,
    segmentation: Dataset,
    segments: dict[str, int],
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    tracking = tracking_uid(context, algorithm, region.label)
    is_anatomy = region.category.same_concept(codes.ANATOMICAL_STRUCTURE)
    side = None if region.laterality is None else concept(region.laterality)
    numbers = [_number(number) for number in region.measurements]
    for index, number in enumerate(numbers):
        number[0].ObservationUID = result_uid(context, algorithm, "observation", region.label, str(index))
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking, identifier=region.tracking_identifier or region.label
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=str(segmentation.SOPClassUID),
            sop_instance_uid=str(segmentation.SOPInstanceUID),
            segment_number=segments[tracking],
            source_series=SourceSeriesForSegmentation(str(source.SeriesInstanceUID)),
        ),
        finding_category=concept(region.category),
        finding_type=concept(region.type),
        finding_sites=[FindingSite(concept(region.type), laterality=side)] if is_anatomy else None,
        measurements=numbers,
    )
    container = group[0]
    container.ContinuityOfContent = "SEPARATE"
    container.ObservationUID = result_uid(context, algorithm, "observation", region.label, "group")
    for item in container.ContentSequence:
        if item.ValueType == "CODE" and item.name == concept(codes.FINDING):
            item.ObservationUID = result_uid(context, algorithm, "observation", region.label, "finding")
    return group


def _number(number: MeasuredNumber) -> Measurement:
    return Measurement(
        name=concept(number.name),
        value=0.0 if number.value is None else float(number.value),
        unit=concept(number.unit),
        qualifier=None if number.failure is None else concept(number.failure),
        derivation=None if number.derivation is None else concept(number.derivation),
        method=None if number.method is None else concept(number.method),
    )


def _absence(region: Region, algorithm: AlgorithmIdentity, context: ResultContext) -> CodeContentItem:
    item = _code(region.type, codes.ABSENT, _CONTAINS)
    item.add_new(
        "ObservationUID", "UI", result_uid(context, algorithm, "observation", region.label, "absent")
    )
    if region.laterality is not None:
        item.add_new("ContentSequence", "SQ", [_code(codes.LATERALITY, region.laterality, _MODIFIER)])
    return item


def _code(name: Code, value: Code, relationship: RelationshipTypeValues) -> CodeContentItem:
    return CodeContentItem(concept(name), concept(value), relationship_type=relationship)


def _container(name: Code, content: ContentSequence) -> ContainerContentItem:
    container = ContainerContentItem(concept(name), is_content_continuous=False, relationship_type=_CONTAINS)
    container.ContentSequence = content
    return container
