# SPDX-License-Identifier: Apache-2.0
"""Facts of a series computed over the headers of all its images, in one pass.

What headers do not tell stays unknown, with a note that says why. Choices of ours are the delays that
separate phases of contrast and the words that name them; a Contrast/Bolus Agent Phase in the header goes
before both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from profiles.dicom_json import DicomJson, first, text
from task_manager.rules.acquisition import ImageHeader
from task_manager.rules.attributes import data_set_values, parse_reference
from task_manager.rules.comparison import comparable, number
from task_manager.rules.geometry import Plane, Stack, planes_of, stack_of

_MOST_VALUES = 1000
_DAY_S = 86_400
_ARTERIAL_S, _VENOUS_S = 45, 110
"""Seconds after the start of the bolus up to which a phase is called so."""

_B_VALUES = (
    parse_reference("DiffusionBValue"),
    parse_reference("MRDiffusionSequence.DiffusionBValue"),
    parse_reference("PerFrameFunctionalGroupsSequence.MRDiffusionSequence.DiffusionBValue"),
    parse_reference("SharedFunctionalGroupsSequence.MRDiffusionSequence.DiffusionBValue"),
    parse_reference("(0019,xx0C)", "SIEMENS MR HEADER"),
    parse_reference("(2001,xx03)", "Philips Imaging DD 001"),
)
_GE_B_VALUE = parse_reference("(0043,xx39)", "GEMS_PARM_01")
_GE_OFFSET = 1e9
_ECHO_TIMES = (
    parse_reference("EchoTime"),
    parse_reference("PerFrameFunctionalGroupsSequence.MREchoSequence.EffectiveEchoTime"),
    parse_reference("SharedFunctionalGroupsSequence.MREchoSequence.EffectiveEchoTime"),
)
_TOLD_PHASE = (
    parse_reference("ContrastBolusAgentPhase"),
    parse_reference("PerFrameFunctionalGroupsSequence.ContrastBolusUsageSequence.ContrastBolusAgentPhase"),
    parse_reference("SharedFunctionalGroupsSequence.ContrastBolusUsageSequence.ContrastBolusAgentPhase"),
)
_PHASE_WORDS = (
    ("NATIVE", re.compile(r"\b(nativ|native|non[ -]?con(trast)?|unenhanced)\b")),
    ("NATIVE", re.compile(r"\b(w/o|without( contrast)?|pre[ -]?(con(trast)?|gd|gad))\b")),
    ("ARTERIAL", re.compile(r"\b(arterial|arteriell|art|hap|angio|cta)\b")),
    ("DELAYED", re.compile(r"\b(delay(ed)?|late|equilibrium|excretory|urographic)\b")),
    ("VENOUS", re.compile(r"\b(portal|portal[ -]?venous|venous|venoes|ven|pv|pvp)\b")),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FactValue:
    """Values of one fact, as text, and where they came from or why there is none."""

    values: tuple[str, ...] = ()
    note: str = ""


@dataclass(slots=True)
class _Collected:
    images: int = 0
    planes: list[Plane] = field(default_factory=list)
    b_values: set[float] = field(default_factory=set)
    echo_times: set[float] = field(default_factory=set)
    positions: set[str] = field(default_factory=set)
    triggers: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)
    pixel_sides: set[float] = field(default_factory=set)


def facts_of(series: DicomJson, images: Iterable[ImageHeader]) -> dict[str, FactValue]:
    """Every fact of ``facts.IMAGE_FACTS``.

    Parameters
    ----------
    series
        Header of the series, for what its images share.
    images
        Headers of all its images, read once.
    """
    found = _Collected()
    for image in images:
        _collect(found, image.attributes)
    if not found.images:
        nothing = FactValue(note="the headers of its images are not at hand")
        return dict.fromkeys(_WITHOUT_IMAGES, nothing) | _contrast(series)
    return {**_geometry(found), **_listed(found), **_contrast(series)}


def _collect(found: _Collected, attributes: DicomJson) -> None:
    planes, images = planes_of(attributes)
    found.images += images
    found.planes += planes
    if text(attributes, "Modality") in ("MR", ""):
        _collect_resonance(found, attributes)
    for keyword, into in (
        ("TemporalPositionIdentifier", found.positions),
        ("TriggerTime", found.triggers),
        ("Rows", found.rows),
        ("Columns", found.columns),
    ):
        value = text(attributes, keyword)
        if value and len(into) < _MOST_VALUES:
            into.add(value)
    sides = [
        side
        for side in (attributes.get("00280030") or {}).get("Value") or ()
        if isinstance(side, int | float)
    ]
    if sides and len(found.pixel_sides) < _MOST_VALUES:
        found.pixel_sides.add(round(float(min(sides)), 4))


def _collect_resonance(found: _Collected, attributes: DicomJson) -> None:
    for reference in _B_VALUES:
        _add_numbers(found.b_values, data_set_values(attributes, reference.steps).values)
    of_ge = data_set_values(attributes, _GE_B_VALUE.steps).values[:1]
    _add_numbers(found.b_values, of_ge, _GE_OFFSET)
    for reference in _ECHO_TIMES:
        _add_numbers(found.echo_times, data_set_values(attributes, reference.steps).values)


def _add_numbers(into: set[float], content: Iterable[object], modulus: float = 0.0) -> None:
    for one in content:
        value = number(one) if isinstance(one, str) else None
        if value is not None and len(into) < _MOST_VALUES:
            into.add(value % modulus if modulus and value >= modulus else value)


def _geometry(found: _Collected) -> dict[str, FactValue]:
    stack = stack_of(found.planes)
    unplaced = found.images - len(found.planes)
    why = ""
    if stack is None:
        why = "no image has a position and an orientation"
        stack = Stack(orientation="")
    elif stack.slices is None:
        why = "its images are not parallel"
    elif stack.spacing_mm is None:
        why = "all images are at one position"
    regular = {None: "", True: "YES", False: "NO"}[stack.regular]
    told = {
        "orientation": stack.orientation,
        "tilt_degrees": _text(stack.tilt_degrees),
        "slices": _text(stack.slices),
        "spacing_mm": _text(stack.spacing_mm),
        "regular": regular,
        "gaps": _text(stack.gaps),
        "coverage_mm": _text(stack.coverage_mm),
        "images_per_slice": _text(stack.images_per_slice),
    }
    beside = f"{unplaced} images have no position" if unplaced else ""
    return {
        "geometry.images": FactValue(values=(str(found.images),)),
        "geometry.unplaced": FactValue(values=(str(unplaced),)),
        **{
            f"geometry.{name}": FactValue(values=(value,), note=beside) if value else FactValue(note=why)
            for name, value in told.items()
        },
    }


def _listed(found: _Collected) -> dict[str, FactValue]:
    positions = found.positions or found.triggers
    return {
        "geometry.rows": _list(found.rows),
        "geometry.columns": _list(found.columns),
        "geometry.pixel_spacing_mm": _list(_text(side) for side in sorted(found.pixel_sides)),
        "acquisition.b_values": _list(_text(value) for value in sorted(found.b_values)),
        "acquisition.b_value_count": _list([str(len(found.b_values))] if found.b_values else []),
        "acquisition.echo_times_ms": _list(_text(value) for value in sorted(found.echo_times)),
        "acquisition.echo_count": _list([str(len(found.echo_times))] if found.echo_times else []),
        "acquisition.temporal_positions": _list([str(len(positions))] if positions else []),
    }


def _contrast(series: DicomJson) -> dict[str, FactValue]:
    delay = _delay_s(series)
    return {
        "acquisition.contrast_delay_s": FactValue(values=(_text(delay),))
        if delay is not None
        else FactValue(note="no times of bolus and acquisition"),
        "acquisition.contrast_phase": _phase(series, delay),
    }


def _phase(series: DicomJson, delay: float | None) -> FactValue:
    for reference in _TOLD_PHASE:
        told = data_set_values(series, reference.steps).values
        if told:
            return FactValue(
                values=tuple(dict.fromkeys(str(one) for one in told)), note="as the header has it"
            )
    for keyword in ("SeriesDescription", "ProtocolName"):
        words = text(series, keyword).casefold().replace("_", " ")[:256]
        for phase, pattern in _PHASE_WORDS:
            if pattern.search(words):
                return FactValue(values=(phase,), note=f"by a word of {keyword}")
    if delay is None:
        return FactValue(note="neither the header nor a word nor the times of the bolus tell it")
    if delay < 0:
        phase = "NATIVE"
    else:
        phase = "ARTERIAL" if delay <= _ARTERIAL_S else "VENOUS" if delay <= _VENOUS_S else "DELAYED"
    return FactValue(values=(phase,), note=f"by {_text(delay)} s after the bolus")


def _delay_s(series: DicomJson) -> float | None:
    """Seconds from bolus to acquisition, over midnight if that is nearer; None if a time is missing."""
    bolus = comparable("TM", text(series, "ContrastBolusStartTime"))
    acquired = comparable("TM", text(series, "AcquisitionTime"))
    if acquired is None:
        moment = first(series, "AcquisitionDateTime")
        acquired = (
            comparable("TM", moment[8:].split("+")[0].split("-")[0]) if isinstance(moment, str) else None
        )
    if bolus is None or acquired is None:
        return None
    delay = acquired - bolus
    return delay + _DAY_S if delay < -_DAY_S / 2 else delay


def _list(values: Iterable[str]) -> FactValue:
    return FactValue(values=tuple(sorted(values) if isinstance(values, set) else values))


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if abs(value) < 1e5 else str(value)


_WITHOUT_IMAGES = tuple({**_geometry(_Collected()), **_listed(_Collected())})
