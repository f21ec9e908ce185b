# SPDX-License-Identifier: Apache-2.0
"""Names in a folder: what templates may say, and what hostile values come to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from informatics_gateway.folder_layout import DEFAULT_LAYOUT, Layout, index_path, safe_value
from profiles.dicom_json import element, merged
from profiles.patient import PatientIdentity
from tests.shipments import INSTANCE, SHIPMENT


def test_the_default_names_objects_by_their_uids() -> None:
    path = Layout().path_of(SHIPMENT, INSTANCE)
    assert path.as_posix() == "2.25.98/2.25.99/2.25.100.dcm"


@pytest.mark.parametrize(
    ("template", "identifying", "why"),
    [
        pytest.param("/{sop_instance_uid}", False, "empty", id="absolute"),
        pytest.param("../{sop_instance_uid}", False, "dot", id="upwards"),
        pytest.param("a/../{sop_instance_uid}", False, "dot", id="upwards in the middle"),
        pytest.param("a//{sop_instance_uid}", False, "empty", id="empty part"),
        pytest.param("{sop_instance_uid}/", False, "empty", id="ends with a slash"),
        pytest.param(".hidden/{sop_instance_uid}", False, "dot", id="hidden"),
        pytest.param("a\\b/{sop_instance_uid}", False, "letters", id="backslash"),
        pytest.param("a b/{sop_instance_uid}", False, "letters", id="space"),
        pytest.param("{sop_instance_uid}:x", False, "letters", id="colon"),
        pytest.param("{sop_instance_uid.__class__}", False, "letters", id="attribute"),
        pytest.param("{nothing}/{sop_instance_uid}", False, "no field", id="unknown field"),
        pytest.param("{patient_name}/{sop_instance_uid}", False, "who the patient is", id="name"),
        pytest.param("{patient_id}/{sop_instance_uid}", False, "who the patient is", id="patient id"),
        pytest.param("{study_instance_uid}/x.dcm", False, "sop_instance_uid", id="one name for all"),
        pytest.param("{sop_instance_uid}/x.dcm", False, "sop_instance_uid", id="object as a folder"),
        pytest.param("complete/{sop_instance_uid}", False, "indexes", id="among the indexes"),
        pytest.param("Complete/{sop_instance_uid}", False, "indexes", id="so on other systems"),
        pytest.param("a/" * 20 + "{sop_instance_uid}", False, "parts", id="too deep"),
        pytest.param("", False, "empty", id="empty"),
    ],
)
def test_templates_that_are_refused(template: str, identifying: bool, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Layout(template, identifying=identifying)


def test_all_fields() -> None:
    template = (
        "{study_date}_{accession_number}/{workitem_code}-{workitem_uid}/{series_number}_{modality}/"
        "{instance_number}_{sop_instance_uid}.dcm"
    )
    attributes = merged(
        [
            element("StudyDate", "20260504"),
            element("AccessionNumber", "A/1"),
            element("SeriesNumber", "3"),
            element("Modality", "SR"),
        ]
    )
    path = Layout(template).path_of(SHIPMENT, replace(INSTANCE, attributes=attributes))
    assert path.as_posix() == "20260504_A_1/AW1001-2.25.77/3_SR/none_2.25.100.dcm"


def test_names_of_patients_only_where_they_are_wanted() -> None:
    layout = Layout("{patient_name}_{patient_id}/{sop_instance_uid}.dcm", identifying=True)
    named = merged([element("PatientName", "Müller^Jörg"), element("PatientID", "../../etc")])
    instance = replace(INSTANCE, attributes=named)
    assert layout.path_of(SHIPMENT, instance).as_posix() == "Muller_Jorg_etc/2.25.100.dcm"
    survivor = replace(SHIPMENT, patient=PatientIdentity(patient_id="P9", name="Roe^Jane"))
    assert layout.path_of(survivor, instance).as_posix() == "Roe_Jane_P9/2.25.100.dcm"


def test_names_that_are_too_long_still_tell_objects_apart() -> None:
    layout = Layout("{sop_instance_uid}-{modality}-{accession_number}-{series_number}-{study_date}.dcm")
    long = ("Modality", "AccessionNumber", "SeriesNumber", "StudyDate")
    attributes = merged([element(keyword, "9" * 64) for keyword in long])
    names = {
        layout.path_of(SHIPMENT, replace(INSTANCE, sop_instance_uid=uid, attributes=attributes)).name
        for uid in ("2.25.100", "2.25.101")
    }
    assert len(names) == 2
    assert all(len(name) == 200 and name.endswith(".dcm") for name in names)


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("", "none"),
        ("..", "none"),
        ("../../etc/passwd", "etc_passwd"),
        ("/etc/passwd", "etc_passwd"),
        ("C:\\Windows", "C_Windows"),
        ("a\x00b\nc", "a_b_c"),
        ("山田^太郎", "none"),
        ("山田^Taro", "Taro"),
        ("x" * 500, "x" * 64),
        ("-rf", "-rf"),
    ],
)
def test_values(value: str, safe: str) -> None:
    assert safe_value(value) == safe


@pytest.mark.parametrize("device", ["CON", "nul", "LPT1", "aux.x"])
def test_names_of_devices_are_no_names(device: str) -> None:
    attributes = element("Modality", device)
    path = Layout("{modality}/{sop_instance_uid}").path_of(SHIPMENT, replace(INSTANCE, attributes=attributes))
    assert path.parts[0] == f"_{device}"


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_value_leads_anywhere_else(accession: str, study: str) -> None:
    instance = replace(
        INSTANCE, study_instance_uid=study, attributes=merged([element("AccessionNumber", accession)])
    )
    layout = Layout("{study_instance_uid}/{accession_number}-{modality}/{sop_instance_uid}.dcm")
    path = layout.path_of(SHIPMENT, instance)
    assert len(path.parts) == 3
    assert not path.is_absolute()
    assert all(part.strip(".") and "/" not in part and len(part) <= 200 for part in path.parts)
    assert path.parts[2] == "2.25.100.dcm"


@pytest.mark.parametrize("uid", ["", "../x", "1.2/3", "x"])
def test_an_object_or_workitem_without_a_uid_has_no_name(uid: str) -> None:
    with pytest.raises(ValueError, match="SOP Instance UID"):
        Layout(DEFAULT_LAYOUT).path_of(SHIPMENT, replace(INSTANCE, sop_instance_uid=uid))
    with pytest.raises(ValueError, match="workitem"):
        index_path(replace(SHIPMENT, workitem_uid=uid))
