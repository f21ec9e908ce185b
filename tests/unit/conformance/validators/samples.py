# SPDX-License-Identifier: Apache-2.0
"""A small correct SEG and SR TID 1500, made by highdicom alone, for the tests of the checkers to break."""

from __future__ import annotations

from functools import lru_cache

import highdicom as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from conformance.phantoms.chest import ChestPhantom, make_ct_chest
from conformance.phantoms.ct_files import datasets

_EQUIPMENT = {
    "manufacturer": "Sample",
    "manufacturer_model_name": "Sampler",
    "software_versions": "1.0",
    "device_serial_number": "1",
}


@lru_cache(maxsize=1)
def ct_slices() -> tuple[Dataset, ...]:
    """Eight axial CT images of the chest phantom."""
    phantom = make_ct_chest(ChestPhantom(shape=(8, 32, 32)))
    return tuple(datasets(phantom))


@lru_cache(maxsize=1)
def segmentation() -> hd.seg.Segmentation:
    """A binary segmentation of a block in every slice."""
    slices = list(ct_slices())
    mask = np.zeros((len(slices), 32, 32), dtype=np.uint8)
    mask[:, 4:12, 4:12] = 1
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lung",
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Lung,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="sample", version="1.0", family=codes.DCM.ArtificialIntelligence
        ),
        tracking_id="Lung",
        tracking_uid="2.25.201",
    )
    return hd.seg.Segmentation(
        source_images=slices,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid="2.25.202",
        series_number=300,
        sop_instance_uid="2.25.203",
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_EQUIPMENT,
    )


@lru_cache(maxsize=1)
def structured_report() -> hd.sr.Comprehensive3DSR:
    """A measurement report with the volume of that segment."""
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid="2.25.204", name="sample", manufacturer_name="Sample", model_name="Sampler"
        ),
    )
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid="2.25.201", identifier="Lung"),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation().SOPClassUID,
            sop_instance_uid=segmentation().SOPInstanceUID,
            segment_number=1,
            source_series=hd.sr.SourceSeriesForSegmentation(ct_slices()[0].SeriesInstanceUID),
        ),
        finding_type=codes.SCT.Lung,
        measurements=[
            hd.sr.Measurement(
                name=codes.SCT.Volume,
                value=4200.0,
                unit=CodedConcept(value="mL", scheme_designator="UCUM", meaning="milliliter"),
            )
        ],
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    return hd.sr.Comprehensive3DSR(
        evidence=[*ct_slices(), segmentation()],
        content=report[0],
        series_instance_uid="2.25.205",
        series_number=301,
        sop_instance_uid="2.25.206",
        instance_number=1,
        manufacturer="Sample",
        is_complete=True,
        is_final=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
