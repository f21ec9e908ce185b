# SPDX-License-Identifier: Apache-2.0
"""Facts of series: b-values of three makers and the standard, echoes, phases of contrast, what is missing."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from profiles.dicom_json import DicomJson, element, merged, text
from task_manager.actor import Source
from task_manager.outcome import Refused
from task_manager.rules.acquisition import ImageHeader
from task_manager.rules.dry_run import gathered_studies
from task_manager.rules.facts import FACTS, IMAGE_FACTS, LEARNED_FACTS, SOURCE_FACTS, TRIGGER_FACTS
from task_manager.rules.survey import FactValue, facts_of
from task_manager.study.header import read_header
from tests.unit.task_manager.rules.headers import header, stack
from tests.unit.task_manager.rules.studies import NOW


def facts(headers: list[Any]) -> dict[str, FactValue]:
    images = [
        ImageHeader(sop_instance_uid=one.sop_instance_uid, instance_number=1, attributes=one.attributes)
        for one in headers
    ]
    return facts_of(headers[0].attributes, iter(images))


def private(creator: str, tag: str, vr: str, *value: Any) -> DicomJson:
    group, element_number = tag.split(",")
    return {
        f"{group}0010": {"vr": "LO", "Value": [creator]},
        f"{group}10{element_number}": {"vr": vr, "Value": list(value)},
    }


@pytest.mark.parametrize(
    ("more", "value"),
    [
        (element("DiffusionBValue", 800.0), "800"),
        (private("SIEMENS MR HEADER", "0019,0C", "IS", 1000), "1000"),
        (private("GEMS_PARM_01", "0043,39", "IS", 1000000700, 8, 0, 0), "700"),
        (private("Philips Imaging DD 001", "2001,03", "FL", 600.0), "600"),
        (element("MRDiffusionSequence", element("DiffusionBValue", 50.0)), "50"),
    ],
    ids=["standard", "Siemens", "GE", "Philips", "in a sequence"],
)
def test_b_values(more: DicomJson, value: str) -> None:
    found = facts([header(1, 1, more), header(1, 2, element("DiffusionBValue", 0.0))])
    assert found["acquisition.b_values"].values == ("0", value)
    assert found["acquisition.b_value_count"].values == ("2",)


def test_echoes_and_temporal_positions() -> None:
    found = facts(
        [
            header(1, n, EchoTime=echo, TemporalPositionIdentifier=n % 2)
            for n, echo in enumerate((2.3, 4.6, 2.3))
        ]
    )
    assert found["acquisition.echo_times_ms"].values == ("2.3", "4.6")
    assert found["acquisition.echo_count"].values == ("2",)
    assert found["acquisition.temporal_positions"].values == ("2",)


@pytest.mark.parametrize(
    ("description", "protocol", "phase"),
    [
        ("Abd_Arterial 1.5", "", "ARTERIAL"),
        ("Late arterial", "", "ARTERIAL"),
        ("portal venous", "", "VENOUS"),
        ("ABD W/O", "", "NATIVE"),
        ("Abd", "LIVER DELAYED", "DELAYED"),
        ("Article 1", "", None),
        ("", "", None),
    ],
)
def test_phase_of_contrast_by_words(description: str, protocol: str, phase: str | None) -> None:
    one = header(1, 1, SeriesDescription=description, ProtocolName=protocol)
    found = facts([one])["acquisition.contrast_phase"]
    assert found.values == ((phase,) if phase else ())
    said = "by a word of ProtocolName" if protocol else "by a word of SeriesDescription"
    assert found.note == (
        said if phase else "neither the header nor a word nor the times of the bolus tell it"
    )


@pytest.mark.parametrize(
    ("bolus", "acquired", "delay", "phase"),
    [
        ("120000", {"AcquisitionTime": "120030"}, "30", "ARTERIAL"),
        ("120000", {"AcquisitionTime": "120110"}, "70", "VENOUS"),
        ("120000", {"AcquisitionTime": "120500"}, "300", "DELAYED"),
        ("120000", {"AcquisitionTime": "115900"}, "-60", "NATIVE"),
        ("235950", {"AcquisitionTime": "000020"}, "30", "ARTERIAL"),
        ("120000", {"AcquisitionDateTime": "20240101120110.5+0100"}, "70.5", "VENOUS"),
        ("noon", {"AcquisitionTime": "120030"}, None, None),
        ("120000", {}, None, None),
    ],
    ids=["30 s", "70 s", "300 s", "before", "midnight", "date and time", "no time", "no acquisition"],
)
def test_phase_of_contrast_by_delay(
    bolus: str, acquired: dict[str, str], delay: str | None, phase: str | None
) -> None:
    found = facts([header(1, 1, ContrastBolusStartTime=bolus, **acquired)])
    assert found["acquisition.contrast_delay_s"].values == ((delay,) if delay else ())
    assert found["acquisition.contrast_phase"].values == ((phase,) if phase else ())


def test_the_phase_of_the_header_goes_first() -> None:
    usage = element("ContrastBolusUsageSequence", element("ContrastBolusAgentPhase", "PORTAL_VENOUS"))
    shared = element("SharedFunctionalGroupsSequence", usage)
    found = facts([header(1, 1, shared, SeriesDescription="arterial")])["acquisition.contrast_phase"]
    assert found == FactValue(values=("PORTAL_VENOUS",), note="as the header has it")


def test_geometry_with_images_that_have_no_position() -> None:
    found = facts([*stack(1, 4, 2.0), header(1, 9, Rows=512)])
    assert found["geometry.images"].values == ("5",)
    assert found["geometry.unplaced"].values == ("1",)
    assert found["geometry.spacing_mm"] == FactValue(values=("2",), note="1 images have no position")
    assert found["geometry.rows"].values == ("256", "512")
    assert found["geometry.pixel_spacing_mm"].values == ("0.5",)


def test_without_images_nothing_is_known_and_said_so() -> None:
    found = facts_of(merged([element("SeriesDescription", "arterial")]), ())
    assert found["geometry.spacing_mm"] == FactValue(note="the headers of its images are not at hand")
    assert found["acquisition.contrast_phase"].values == ("ARTERIAL",)


def test_every_fact_has_a_value_or_a_reason() -> None:
    assert set(facts([header(1, 1)])) == set(IMAGE_FACTS)
    assert set(facts_of({}, ())) == set(IMAGE_FACTS)
    assert set(FACTS) == {*SOURCE_FACTS, *TRIGGER_FACTS, *IMAGE_FACTS, *LEARNED_FACTS}


@pytest.mark.real_data
def test_geometry_of_real_series(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "mr-brain-t1-t2" / "dicom.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    read = (read_header(path) for path in sorted(tmp_path.rglob("*")) if path.is_file())
    headers = [one for one in read if not isinstance(one, Refused)]
    (one,) = gathered_studies(headers, Source(door="dicom"), NOW)
    found = {}
    for series in one.study.series:
        told = facts_of(series.attributes, one.acquisition.images(series.series_instance_uid))
        names = ("orientation", "spacing_mm", "slices", "gaps", "regular")
        found[text(series.attributes, "SeriesDescription")] = [
            "".join(told[f"geometry.{name}"].values) for name in names
        ]
    assert found["mocoMEMPRAGE_220FOV RMS"] == ["SAGITTAL", "2", "88", "0", "YES"]
    assert found["AX FSE T2"] == ["AXIAL", "2.5", "24", "0", "YES"]
    assert found["Perfusion_Weighted"] == ["AXIAL", "", "1", "", ""]
