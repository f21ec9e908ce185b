# SPDX-License-Identifier: Apache-2.0
"""The transaction that tells an EMR one result, derived from the stored SR and its workitem alone.

FHIR and DICOM cannot disagree, and a second sending changes nothing: every resource is created on condition
that its business identifier is not known yet, and the same SR gives the same Bundle.
"""

from __future__ import annotations

from profiles.air.model import ReportContent
from profiles.dicom_json import DicomJson
from profiles.fhir.device import device_entry
from profiles.fhir.entry import Links
from profiles.fhir.identifiers import FhirIdentity, Json
from profiles.fhir.imaging_study import imaging_study_entry
from profiles.fhir.observation import ObservationWriter
from profiles.fhir.order import (
    accession_identifier,
    order_references,
    requested_procedures,
    service_request_entry,
)
from profiles.fhir.patient import patient_entry
from profiles.fhir.provenance import provenance_entry
from profiles.fhir.report import report_entry


def result_bundle(content: ReportContent, workitem: DicomJson, *, settings: FhirIdentity) -> Json:
    """The FHIR R4 transaction Bundle of one stored SR.

    Parameters
    ----------
    content
        What the SR says (:func:`profiles.air.read.read_report`).
    workitem
        DICOM JSON of the workitem; only its Referenced Request Sequence is read.
    settings
        Identifier systems and names of the site.

    Returns
    -------
    dict
        Patient, ServiceRequest (if there is an order), ImagingStudy, Device, Observations, DiagnosticReport
        and Provenance, with ``urn:uuid:`` references among them.

    References
    ----------
    FHIR R4 (4.0.1) http 3.1.0.11 transaction; HL7 DICOM SR to FHIR Resource Mapping 1.0.0.
    """
    patient = patient_entry(content, settings)
    procedures = requested_procedures(content, workitem, settings)
    orders = [service_request_entry(each, patient.reference, settings) for each in procedures]
    accession = accession_identifier(content, procedures, settings)
    references = order_references(orders, accession)
    study = imaging_study_entry(
        content, patient=patient.reference, orders=references, accession=accession, settings=settings
    )
    device = device_entry(content, settings)
    links = Links(
        patient=patient.reference,
        study=study.reference,
        device=device.reference if device else None,
        orders=references,
    )
    groups = ObservationWriter(content=content, links=links, settings=settings).groups()
    groupers = [group.grouper for group in groups]
    observations = [entry for group in groups for entry in (*group.members, group.grouper)]
    report = report_entry(content, links=links, results=groupers, settings=settings)
    provenance = provenance_entry(content, links=links, targets=[report, *observations], settings=settings)
    known = [patient, *orders, study, *([device] if device else []), *observations, report, provenance]
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry.to_json() for entry in known]}
