# SPDX-License-Identifier: Apache-2.0
"""Evaluation: every operator true, false and unknown; series selection; real studies."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from conformance.phantoms import ChestPhantom, datasets, make_ct_chest
from profiles.dicom_json import element, merged
from profiles.order import Priority
from task_manager.rules.evaluate import effective_priority, evaluate
from task_manager.rules.explain import RuleVerdict, render
from task_manager.rules.model import Verdict
from task_manager.rules.parse import load_rules, parse_rules
from tests.unit.task_manager.rules.studies import (
    CT_SERIES,
    ORDER,
    explained,
    real_studies,
    rule_text,
    series,
    study,
    verdict_of,
)

T, F, U = Verdict.TRUE, Verdict.FALSE, Verdict.UNKNOWN
DEFAULTS = Path(__file__).parents[4] / "informatics_gateway" / "defaults" / "rules"

CONDITIONS = [
    # equals: text, multi-valued, numeric, missing, empty
    ("{Modality: CT}", T),
    ("{Modality: ct}", T),
    ("{Modality: {equals: MR}}", F),
    ("{ImageType: AXIAL}", T),
    ("{KVP: 120}", T),
    ("{KVP: 121}", F),
    ("{Laterality: L}", U),
    ("{ProtocolName: X}", U),
    ("{'(0008,0060)': CT}", T),
    # in
    ("{BodyPartExamined: [HEAD, CHEST]}", T),
    ("{BodyPartExamined: {in: [HEAD]}}", F),
    ("{Laterality: {in: [L, R]}}", U),
    # like
    ("{SeriesDescription: {like: 'thorax*b7?f'}}", T),
    ("{SeriesDescription: {like: 'Thorax'}}", F),
    ("{Laterality: {like: '*'}}", U),
    # regex: anywhere, case counts
    ("{SeriesDescription: {regex: 'B[0-9]+f$'}}", T),
    ("{SeriesDescription: {regex: 'thorax'}}", F),
    ("{SeriesDescription: {regex: '(?i)thorax'}}", T),
    ("{Laterality: {regex: '.'}}", U),
    # ranges: numbers, dates, times, ages
    ("{SliceThickness: {le: 1.25}}", T),
    ("{SliceThickness: {lt: 1.25}}", F),
    ("{SliceThickness: {gt: 1, le: 3}}", T),
    ("{SliceThickness: {gt: 2, le: 3}}", F),
    ("{SpacingBetweenSlices: {gt: 1}}", U),
    ("{Modality: {gt: 1}}", U),
    ("{StudyDate: {ge: 2024-01-01, lt: 2024-02-01}}", T),
    ("{StudyDate: {gt: 20240131}}", F),
    ("{PatientAge: {ge: 18}}", T),
    ("{PatientAge: {lt: 012M}}", F),
    ("{ContentTime: {ge: '09:00', lt: '17:00'}}", T),
    ("{ContentTime: {ge: '10:00'}}", F),
    ("{AcquisitionDateTime: {ge: 2024-01-01}}", T),
    ("{AcquisitionDateTime: {lt: '20240101120000+0100'}}", F),
    # code sequences
    ("{ProcedureCodeSequence: {code: CTCH}}", T),
    ("{ProcedureCodeSequence: {code: {value: 24627-2, scheme: LN}}}", T),
    ("{ProcedureCodeSequence: {code: {value: 24627-2, scheme: L}}}", F),
    ("{ProcedureCodeSequence: {like: '24627*'}}", T),
    ("{RequestAttributesSequence: {code: X}}", U),
    # paths
    ("{'ProcedureCodeSequence[0].CodeValue': CTCH}", T),
    ("{'ProcedureCodeSequence[1].CodeValue': CTCH}", F),
    ("{'ProcedureCodeSequence.CodeValue': 24627-2}", T),
    ("{'ProcedureCodeSequence[*].CodeValue': 24627-2}", T),
    ("{'ProcedureCodeSequence[7].CodeValue': CTCH}", U),
    ("{'(0008,1032)[0].(0008,0100)': CTCH}", T),
    # private attributes by creator
    ("{tag: '(0029,xx08)', creator: SIEMENS CSA HEADER, equals: IMAGE NUM 4}", T),
    ("{tag: 0029xx60, creator: SIEMENS MEDCOM HEADER2, equals: com}", T),
    ("{tag: '(0029,1060)', creator: SIEMENS MEDCOM HEADER2, like: c*}", T),
    ("{tag: 0029xx08, creator: SIEMENS MEDCOM HEADER2, equals: IMAGE NUM 4}", U),
    ("{tag: 0029xx61, creator: SIEMENS MEDCOM HEADER2, ge: 12.5}", T),
    ("{tag: 0029xx62, creator: SIEMENS MEDCOM HEADER2, exists: true}", F),
    ("{tag: 0029xx08, creator: OTHER, exists: false}", T),
    ("{tag: 0029xx18, creator: SIEMENS CSA HEADER, equals: more}", T),
    # exists: never unknown
    ("{Modality: {exists: true}}", T),
    ("{ProtocolName: {exists: true}}", F),
    ("{ProtocolName: {exists: false}}", T),
    ("{order.Reason: {exists: false}}", T),
    # counted attributes
    ("{ModalitiesInStudy: CT}", T),
    ("{NumberOfStudyRelatedSeries: 1}", T),
    ("{NumberOfStudyRelatedInstances: {ge: 30}}", T),
    ("{NumberOfSeriesRelatedInstances: {gt: 30}}", F),
    ("{SOPClassUID: 1.2.840.10008.5.1.4.1.1.2}", T),
    ("{SOPClassesInStudy: {like: '*.88.33'}}", F),
    # combinations in three values
    ("{all: [{Modality: CT}, {Laterality: L}]}", U),
    ("{all: [{Modality: MR}, {Laterality: L}]}", F),
    ("{any: [{Modality: CT}, {Laterality: L}]}", T),
    ("{any: [{Modality: MR}, {Laterality: L}]}", U),
    ("{not: {Modality: MR}}", T),
    ("{not: {Laterality: L}}", U),
    ("{Modality: {not: {in: [MR, PT]}}}", T),
    ("[{Modality: CT}, {BodyPartExamined: CHEST}]", T),
    ("{Modality: CT, BodyPartExamined: HEAD}", F),
]


@pytest.mark.parametrize(("when", "verdict"), CONDITIONS, ids=[text for text, _ in CONDITIONS])
def test_condition(when: str, verdict: Verdict) -> None:
    assert verdict_of(when) is verdict


@pytest.mark.parametrize(
    ("when", "verdict"),
    [
        ("{order.RequestedProcedureCode: {code: {value: '71250', scheme: C4}}}", T),
        ("{order.RequestedProcedureCode: '71250'}", T),
        ("{order.RequestedProcedureCode: {code: {value: '71250', scheme: L}}}", F),
        ("{order.Priority: HIGH}", T),
        ("{order.RequestedProcedureDescription: {like: '*thorax*'}}", T),
        ("{order.Modality: CT}", U),
        ("{order.ScheduledAt: {ge: 2024-05-06}}", T),
        ("{order.PatientID: P-4711}", T),
    ],
)
def test_order_condition(when: str, verdict: Verdict) -> None:
    assert verdict_of(when, order=ORDER) is verdict


def test_without_order_its_conditions_are_unknown_and_say_so() -> None:
    one = explained("{order.Priority: HIGH}")
    assert one.verdict is RuleVerdict.UNKNOWN
    assert one.when.note == "there is no order"


def test_a_study_condition_holds_if_any_series_satisfies_it() -> None:
    mixed = study(series("1.2.3.1"), series("1.2.3.2", element("Modality", "SR"), 1))
    assert verdict_of("{Modality: SR}", of=mixed) is T
    assert verdict_of("{not: {Modality: SR}}", of=mixed) is F


def test_patient_values_and_names_are_never_shown() -> None:
    one = explained(
        "{all: [{PatientID: P-4711}, {PatientAge: {gt: 1}}, {ReferringPhysicianName: {like: '*'}}]}"
    )
    assert one.when.verdict is T
    text = render([one])
    assert "045Y" not in text
    assert "Hidden" not in text
    assert text.count("(not shown: patient data)") == 3
    by_order = explained("{order.PatientName: {like: '*'}}", order=ORDER)
    assert "Secret" not in render([by_order])


def test_hostile_values_are_shortened_and_made_printable() -> None:
    evil = element("SeriesDescription", "\x1b[31m" + "x" * 900)
    one = explained("{SeriesDescription: {like: '*y'}}", of=study(series(attributes=evil)))
    assert one.when.verdict is F
    assert len(one.when.seen[0]) < 70
    assert "\x1b" not in render([one])


def test_text_too_long_for_a_pattern_is_unknown() -> None:
    long = element("SeriesDescription", "x" * 1025)
    one = explained("{SeriesDescription: {regex: y}}", of=study(series(attributes=long)))
    assert (one.when.verdict, one.when.note) == (U, "the value cannot be read as asked")


@pytest.mark.parametrize(
    "attributes",
    [
        {"00080060": "CT"},
        {"00080060": {"vr": "CS", "Value": "CT"}},
        {"00080060": {"vr": "CS", "Value": [None, [], {"x": 1}]}},
        {"00081032": {"vr": "SQ", "Value": ["no item", {}, {"00080100": 5}]}},
        {"00290010": {"vr": "LO", "Value": [5]}, "00291008": []},
    ],
)
def test_headers_that_are_not_well_formed_do_no_harm(attributes: dict[str, object]) -> None:
    where = "[{Modality: CT}, {ProcedureCodeSequence: {code: X}}, {tag: 0029xx08, creator: A, equals: B}]"
    one = explained(
        where, f"{{name: any, where: {where}}}", of=study(series(attributes=attributes), attributes={})
    )
    assert not one.matched


def _stack(uid: str, number: int | None, thickness: float, count: int, kernel: str = "B30f") -> object:
    parts = [CT_SERIES, element("SliceThickness", thickness), element("ConvolutionKernel", kernel)]
    parts.append(element("SeriesNumber", number) if number is not None else element("SeriesNumber"))
    return series(uid, merged(parts), count)


THICK = _stack("1.2.3.10", 2, 5.0, 60)
THIN = _stack("1.2.3.11", 3, 1.0, 300, "B70f")
THIN_TOO = _stack("1.2.3.9", 7, 1.0, 280)
UNNUMBERED = _stack("1.2.3.8", None, 1.0, 300)
SCOUT = series("1.2.3.12", merged([CT_SERIES, element("ImageType", "ORIGINAL", "PRIMARY", "LOCALIZER")]), 2)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("min_instances: 20", ("1.2.3.10",)),
        ("min_instances: 20, prefer: [{attribute: SliceThickness, order: ascending}]", ("1.2.3.11",)),
        (
            "prefer: [{attribute: NumberOfSeriesRelatedInstances, order: descending}]",
            ("1.2.3.11",),
        ),
        ("prefer: [{attribute: ConvolutionKernel, values: [B5*, B70f, B30f]}]", ("1.2.3.11",)),
        ("prefer: [{attribute: SpacingBetweenSlices, order: ascending}]", ("1.2.3.10",)),
        ("max_instances: 280, min_instances: 100", ("1.2.3.9",)),
        ("max_instances: 1", ()),
        ("where: {SliceThickness: 1}, take: all", ("1.2.3.11", "1.2.3.9", "1.2.3.8")),
        (
            "where: {ImageType: {not: LOCALIZER}}, prefer: [{attribute: KVP, order: descending}]",
            ("1.2.3.10",),
        ),
    ],
)
def test_selection(requirement: str, expected: tuple[str, ...]) -> None:
    of = study(SCOUT, UNNUMBERED, THIN_TOO, THIN, THICK)  # type: ignore[arg-type]
    if "instances" not in requirement and "where" not in requirement:
        requirement += ", where: {ImageType: {not: LOCALIZER}}"
    one = explained(series_text=f"{{name: stack, {requirement}}}", of=of)
    assert one.selected_series == expected
    assert one.matched == bool(expected)
    assert [s.selected for s in one.requirements[0].series] == [
        s.series_instance_uid in expected for s in of.series
    ]


def test_reasons_tell_places_and_missing_values() -> None:
    of = study(THICK, THIN, series("1.2.3.20", element("Modality", "CT")), SCOUT)  # type: ignore[arg-type]
    one = explained(
        series_text="{name: s, where: {ImageType: {not: LOCALIZER}},"
        " prefer: [{attribute: SliceThickness, order: ascending}]}",
        of=of,
    )
    assert [s.reason for s in one.requirements[0].series] == [
        "not selected: place 2 of 2 candidates by SliceThickness ascending ('5.0')",
        "selected: place 1 of 2 candidates by SliceThickness ascending ('1.0')",
        "not selected: values are missing",
        "not selected: a condition is not met",
    ]


def test_a_rule_is_unknown_if_a_series_might_have_matched() -> None:
    one = explained(series_text="{name: s, where: {Laterality: L}}")
    assert (one.verdict, one.selected_series) == (RuleVerdict.UNKNOWN, ())


def test_every_input_must_be_found() -> None:
    text = rule_text(series_text="{name: ct, where: {Modality: CT}}") + (
        "\n      - {name: pet, where: {Modality: PT}}"
    )
    (one,) = evaluate(parse_rules(text, "t"), study(), None)
    assert one.verdict is RuleVerdict.NOT_MATCHED
    assert [r.selected for r in one.requirements] == [("1.2.3.1",), ()]


def test_priority_is_the_rules_then_the_orders_then_medium() -> None:
    own = parse_rules(rule_text() + "\n    priority: LOW", "t").rules[0]
    open_one = parse_rules(rule_text(), "t").rules[0]
    assert effective_priority(own, ORDER) is Priority.LOW
    assert effective_priority(open_one, ORDER) is Priority.HIGH
    assert effective_priority(open_one, None) is Priority.MEDIUM


@pytest.mark.parametrize(
    ("slices", "change", "verdict"),
    [
        (24, {}, RuleVerdict.MATCHED),
        (19, {}, RuleVerdict.NOT_MATCHED),
        (24, {"Modality": "MR"}, RuleVerdict.NOT_MATCHED),
        (
            24,
            {"BodyPartExamined": "HEAD", "SeriesDescription": "x", "StudyDescription": "x"},
            RuleVerdict.NOT_MATCHED,
        ),
        (24, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, RuleVerdict.NOT_MATCHED),
        (24, {"ImageType": None}, RuleVerdict.UNKNOWN),
    ],
)
def test_default_rules_on_a_phantom(
    slices: int, change: dict[str, object], verdict: RuleVerdict, tmp_path: Path
) -> None:
    for data_set in datasets(make_ct_chest(ChestPhantom(shape=(slices, 16, 16)))):
        for keyword, value in change.items():
            setattr(data_set, keyword, value)
        data_set.save_as(tmp_path / f"{data_set.SOPInstanceUID}.dcm")
    (of,) = real_studies(tmp_path).values()
    (one,) = evaluate(load_rules(DEFAULTS), of, None)
    assert one.verdict is verdict, render([one])


@pytest.mark.real_data
def test_default_rules_on_real_studies(shared_data: Path, tmp_path: Path) -> None:
    for name in ("ct-chest-lidc", "mr-brain-t1-t2"):
        with tarfile.open(shared_data / name / "dicom.tar.xz") as packed:
            packed.extractall(tmp_path / name, filter="data")
    rules = load_rules(DEFAULTS)
    lidc = [evaluate(rules, one, None)[0] for one in real_studies(tmp_path / "ct-chest-lidc").values()]
    assert [(one.verdict, len(one.selected_series)) for one in lidc] == [(RuleVerdict.MATCHED, 1)]
    others = {
        **real_studies(tmp_path / "mr-brain-t1-t2"),
        **real_studies(shared_data / "multi-study-headers"),
    }
    assert len(others) == 7
    assert {evaluate(rules, one, None)[0].verdict for one in others.values()} == {RuleVerdict.NOT_MATCHED}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("when", "requirement", "series_descriptions"),
    [
        (
            "{StudyDescription: {like: '*C Spine*'}}",
            "where: {SeriesDescription: {like: '*LAT'}}",
            ["Cervical LAT"],
        ),
        (
            "{StudyDescription: {regex: 'HEAD|BRAIN'}}",
            "where: {Modality: CT, SliceThickness: {lt: 2}}",
            ["Routine Brain"],
        ),
        (
            "{StudyDescription: Brain-MRA}",
            "where: {ImageType: PROJECTION IMAGE}",
            ["ANGIO Projected from   C"],
        ),
        (
            "{Modality: CT}",
            "where: {ImageType: {not: LOCALIZER}, BodyPartExamined: {exists: false}}",
            ["SmartScore - Gated 0.5 sec"],
        ),
    ],
)
def test_choosing_among_real_series(
    shared_data: Path, when: str, requirement: str, series_descriptions: list[str]
) -> None:
    chosen = []
    for one in real_studies(shared_data / "multi-study-headers").values():
        explanation = explained(when, f"{{name: s, {requirement}}}", of=one)
        if explanation.matched:
            by_uid = {s.series_instance_uid: s for s in one.series}
            chosen += [by_uid[uid].attributes["0008103E"]["Value"][0] for uid in explanation.selected_series]
    assert chosen == series_descriptions


@pytest.mark.real_data
def test_private_tags_of_a_real_scanner(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "mr-brain-t1-t2" / "dicom.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    (one,) = real_studies(tmp_path).values()
    anatomical = explained(
        "{tag: 0029xx08, creator: SIEMENS CSA HEADER, equals: IMAGE NUM 4}",
        "{name: t1, where: {ImageType: {not: DERIVED}, SeriesDescription: {like: '*MPRAGE*'}}}",
        of=one,
    )
    assert anatomical.matched
    assert anatomical.requirements[0].series[0].where.parts
