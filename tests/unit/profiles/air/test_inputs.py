# SPDX-License-Identifier: Apache-2.0
"""What is demanded of an analysis before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from pydicom.dataset import Dataset

from profiles.air.grid import ResultError
from profiles.air.inputs import check_inputs
from profiles.air.model import Analysis, ResultContext
from tests.unit.profiles.air.stacks import (
    ALGORITHM,
    CONTEXT,
    SHAPE,
    make_analysis,
    make_region,
    make_sources,
    random_mask,
)

Case = tuple[Analysis, ResultContext, list[Dataset]]


def good() -> Case:
    sources = make_sources()
    return make_analysis(sources), CONTEXT, sources


def paths(case: Case, *, mixed: bool = False) -> list[str]:
    analysis, context, sources = case
    try:
        check_inputs(analysis, context, sources, mixed_frames_of_reference=mixed)
    except ResultError as error:
        return [fault.path for fault in error.faults]
    return []


def on_source(keyword: str, value: str) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        setattr(case[2][2], keyword, value)
        return case

    return change


def on_algorithm(**changes: str) -> Callable[[Case], Case]:
    return lambda case: (replace(case[0], algorithm=replace(ALGORITHM, **changes)), *case[1:])


def with_regions(*labels: str, shape: tuple[int, int, int] = SHAPE) -> Callable[[Case], Case]:
    regions = tuple(make_region(random_mask(1, shape), label) for label in labels)
    return lambda case: (replace(case[0], regions=regions), *case[1:])


def test_a_good_analysis_has_no_fault() -> None:
    assert paths(good()) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        pytest.param(lambda c: (c[0], c[1], c[2][::-1]), "sources", id="other order"),
        pytest.param(lambda c: (c[0], c[1], c[2][:-1]), "sources", id="one missing"),
        pytest.param(on_source("PatientID", "OTHER"), "sources.PatientID", id="two patients"),
        pytest.param(on_source("IssuerOfPatientID", "OTHER"), "sources.IssuerOfPatientID", id="two issuers"),
        pytest.param(on_source("StudyInstanceUID", "1.2.9"), "sources.StudyInstanceUID", id="two studies"),
        pytest.param(on_source("SeriesInstanceUID", "1.2.9"), "sources.SeriesInstanceUID", id="two series"),
        pytest.param(on_source("FrameOfReferenceUID", "1.2.9"), "sources.FrameOfReferenceUID", id="frames"),
        pytest.param(on_source("FrameOfReferenceUID", ""), "sources[2].FrameOfReferenceUID", id="no frame"),
        pytest.param(on_source("Modality", ""), "sources[2].Modality", id="no modality"),
        pytest.param(
            lambda c: (c[0], replace(c[1], performed_at=datetime(2026, 1, 1)), c[2]),
            "context.performed_at", id="time without zone",
        ),
        pytest.param(on_algorithm(name=""), "algorithm.name", id="no name"),
        pytest.param(on_algorithm(name="x" * 65), "algorithm.name", id="long name"),
        pytest.param(on_algorithm(version=""), "algorithm.version", id="no version"),
        pytest.param(on_algorithm(manufacturer=""), "algorithm.manufacturer", id="no maker"),
        pytest.param(
            lambda c: (c[0], replace(c[1], device_serial_number=""), c[2]),
            "context.device_serial_number", id="no serial number",
        ),
        pytest.param(with_regions("A", "A"), "regions.label", id="label twice"),
        pytest.param(with_regions(""), "regions[0].label", id="no label"),
        pytest.param(with_regions(), "regions", id="no region"),
        pytest.param(with_regions("A", shape=(6, 26, 22)), "regions[0].mask", id="transposed"),
        pytest.param(
            lambda c: (replace(c[0], regions=(make_region(np.ones(SHAPE, dtype=np.uint8), "A"),)), *c[1:]),
            "regions[0].mask", id="not bool",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_told_truthfully_is_refused(change: Callable[[Case], Case], path: str) -> None:
    assert path in paths(change(good()))


def test_all_faults_come_at_once() -> None:
    case = on_algorithm(name="", version="")(on_source("PatientID", "OTHER")(good()))
    assert {"algorithm.name", "algorithm.version", "sources.PatientID"} <= set(paths(case))


def test_mixed_frames_of_reference_are_accepted_where_asked_for() -> None:
    case = on_source("FrameOfReferenceUID", "1.2.9")(good())
    assert paths(case, mixed=True) == []


def test_no_images_are_refused() -> None:
    analysis, context, _ = good()
    assert "sources" in paths((analysis, context, []))
