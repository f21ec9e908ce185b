# SPDX-License-Identifier: Apache-2.0
"""The OBX segments of a stored SR: references, the text, and every number and statement of every group.

A finding said to be absent is the *question*, and that is its value, as in FHIR. All OBX of one measurement
group share a sub-id (OBX-4). Later versions of HL7 have more fields; earlier ones get fewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from profiles import codes
from profiles.air.model import ReportContent, ReportedEvaluation, ReportedGroup, ReportedMeasurement
from profiles.air.wording import (
    derived_observation_uid,
    is_number,
    measurement_title,
    report_text,
    site_text,
    stated_presence,
)
from profiles.codes import Code
from profiles.hl7.datatypes import time_of
from profiles.hl7.result_options import ResultOptions

FINAL, PRELIMINARY, CORRECTED = "F", "P", "C"
NOT_OBTAINED = "X"

_WHOLE = "0"
"""Sub-id of what is told of the whole result; groups count from 1."""

_LAST_FIELD = {"2.3": 17, "2.3.1": 17, "2.4": 19, "2.5": 19, "2.5.1": 19}
_NEWEST_LAST_FIELD = 21


def hl7_time(moment: datetime) -> str:
    """TS or DTM of an aware time, to the second."""
    return f"{moment:%Y%m%d%H%M%S%z}"


def study_time(content: ReportContent, zone: tzinfo | None) -> str:
    """OBR-7 and OBX-14: when the images were made, in `zone` if that is known; empty if it was not told."""
    clock = content.study_time.replace(":", "").partition(".")[0]
    written = content.study_date.replace(".", "") + clock
    moment = time_of(written, zone or UTC)
    if moment is None:
        return ""
    return hl7_time(moment) if clock and zone is not None else written


def coded(code: Code, options: ResultOptions, meaning: str = "") -> str:
    """CE or CWE of a code as the receiver knows it; `meaning` takes the place of the code's own."""
    own, encoding = options.concept(code), options.encoding
    parts = (own.value, meaning or own.meaning, own.scheme)
    return encoding.component.join(encoding.encoded(part) for part in parts)


def number_text(value: float) -> str:
    """NM: the number exactly as the SR says it, without an exponent."""
    return format(Decimal(repr(value)), "f")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationWriter:
    """Writes the OBX segments of one SR.

    Attributes
    ----------
    content
        What the SR says.
    options
        How the receiver wants it.
    status
        OBX-11 of everything but what could not be measured.
    """

    content: ReportContent
    options: ResultOptions
    status: str

    def segments(self) -> list[list[str]]:
        """All OBX in order, numbered from 1."""
        last = _LAST_FIELD.get(self.options.version, _NEWEST_LAST_FIELD)
        found = [*self._references(), *self._text()]
        for index, group in enumerate(self.content.groups):
            found += self._group(index, group)
        for number, segment in enumerate(found, start=1):
            segment[1] = str(number)
        return [segment[: last + 1] for segment in found]

    def _references(self) -> Iterator[list[str]]:
        """The study, and the SR that everything comes from."""
        for name, uid in (
            (codes.STUDY_INSTANCE_UID, self.content.study_instance_uid),
            (codes.ORIGINAL_SOURCE, self.content.sop_instance_uid),
        ):
            yield self._obx("ST", coded(name, self.options), _WHOLE, self.options.encoding.encoded(uid))

    def _text(self) -> Iterator[list[str]]:
        if self.options.include_text:
            encoding = self.options.encoding
            lines = [encoding.encoded(line) for line in report_text(self.content).splitlines()]
            said = encoding.repetition.join(lines)
            yield self._obx("TX", coded(self.content.title, self.options), _WHOLE, said)

    def _group(self, index: int, group: ReportedGroup) -> Iterator[list[str]]:
        uid = group.observation_uid or derived_observation_uid(self.content, str(index))
        stated = stated_presence(group)
        name, value = codes.FINDING, group.finding
        if stated is not None and group.finding is not None:
            name, value = group.finding, stated
        if value is not None:
            yield self._code(index, group, uid, name, value)
        for about, told in ((codes.FINDING_SITE, group.finding_site), (codes.LATERALITY, group.laterality)):
            if told is not None:
                yield self._code(index, group, "", about, told)
        for number, measurement in enumerate(group.measurements):
            yield self._measurement(index, group, f"{index}.{number}", measurement)
        for number, evaluation in enumerate(group.evaluations):
            if stated is None or not _is_presence(evaluation):
                place = f"{index}.e{number}"
                uid = evaluation.observation_uid or derived_observation_uid(self.content, place)
                yield self._code(index, group, uid, evaluation.name, evaluation.value)

    def _measurement(
        self, index: int, group: ReportedGroup, place: str, measurement: ReportedMeasurement
    ) -> list[str]:
        options = self.options
        uid = measurement.observation_uid or derived_observation_uid(self.content, place)
        name = coded(measurement.name, options)
        if measurement.derivation is not None:
            name = coded(measurement.name, options, _derived_title(measurement, options))
        how = [code for code in (measurement.derivation, measurement.method) if code is not None]
        method = options.encoding.repetition.join(coded(code, options) for code in how)
        value = measurement.value
        if value is not None and is_number(measurement):
            obx = self._obx("NM", name, str(index + 1), number_text(value), group=group, uid=uid)
            obx[6] = coded(measurement.unit, options)
        else:
            why = coded(measurement.failure, options) if measurement.failure else ""
            kind = self._coded_type if why else ""
            obx = self._obx(kind, name, str(index + 1), why, group=group, uid=uid)
            obx[11] = NOT_OBTAINED
        obx[17] = method
        return obx

    def _code(self, index: int, group: ReportedGroup, uid: str, name: Code, value: Code) -> list[str]:
        options = self.options
        return self._obx(
            self._coded_type,
            coded(name, options),
            str(index + 1),
            coded(value, options),
            group=group,
            uid=uid,
        )

    @property
    def _coded_type(self) -> str:
        """CE up to HL7 v2.4, CWE since."""
        return "CE" if self.options.version in ("2.3", "2.3.1", "2.4") else "CWE"

    def _obx(
        self,
        kind: str,
        name: str,
        sub_id: str,
        value: str,
        *,
        group: ReportedGroup | None = None,
        uid: str = "",
    ) -> list[str]:
        content, encoding = self.content, self.options.encoding
        obx = [""] * (_NEWEST_LAST_FIELD + 1)
        obx[0:6] = ["OBX", "", kind, name, sub_id, value]
        obx[11] = self.status
        obx[14] = study_time(content, self.options.time_zone)
        if group is not None:
            model = " ".join(part for part in (content.device_name, content.device_version) if part)
            parts = [encoding.encoded(part) for part in (model, content.device_manufacturer)]
            parts += [encoding.encoded(content.device_uid), "ISO"] if content.device_uid else []
            obx[18] = encoding.component.join(parts).rstrip(encoding.component)
            obx[19] = hl7_time(content.performed_at)
            if group.finding_site is not None:
                obx[20] = coded(group.finding_site, self.options, site_text(group))
        if uid:
            obx[21] = encoding.component.join(["", "", encoding.encoded(uid), "ISO"])
        return obx


def _is_presence(evaluation: ReportedEvaluation) -> bool:
    return evaluation.name.same_concept(codes.PRESENCE_OF_PROPERTY)


def _derived_title(measurement: ReportedMeasurement, options: ResultOptions) -> str:
    """The receiver's own name for a number where it has one, else ours with its derivation."""
    own = options.concept(measurement.name)
    mapped = own.value != measurement.name.value
    return own.meaning if mapped else measurement_title(measurement)
