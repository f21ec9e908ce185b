# SPDX-License-Identifier: Apache-2.0
"""FHIR data types from DICOM values: dates, names, coded concepts, quantities.

A value that cannot be said rightly in FHIR is left out (None), never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, tzinfo

from profiles.codes import Code
from profiles.fhir.identifiers import FhirIdentity, Json

_DA = re.compile(r"(\d{4})(?:(\d{2})(?:(\d{2}))?)?")
_TM = re.compile(r"(\d{2})(\d{2})(?:(\d{2})(?:\.\d{1,6})?)?")
_UCUM_SYSTEM = "http://unitsofmeasure.org"
_NAME_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


def fhir_date(da: str) -> str | None:
    """The date of a DICOM DA, as precise as it is: ``2026-05-04``, ``2026-05`` or ``2026``.

    The form with points of ACR-NEMA is read too (PS3.5 6.2, note to DA).
    """
    match = _DA.fullmatch(da.strip().replace(".", ""))
    if match is None:
        return None
    year, month, day = match.groups()
    try:
        date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
    return "-".join(part for part in (year, month, day) if part)


def fhir_date_time(da: str, tm: str, zone: tzinfo | None) -> str | None:
    """The dateTime of DA and TM in `zone`; only the date if zone, minutes or the day are not known.

    FHIR allows no time without a zone (R4 datatypes, dateTime).
    """
    day = fhir_date(da)
    time = _TM.fullmatch(tm.strip().replace(":", ""))
    if day is None or len(day) < 10 or zone is None or time is None:
        return day
    hour, minute, second = (int(part or 0) for part in time.groups())
    try:
        moment = datetime.fromisoformat(day).replace(hour=hour, minute=minute, second=second, tzinfo=zone)
    except ValueError:
        return day
    return moment.isoformat()


def instant(moment: datetime) -> str:
    """The FHIR instant of an aware time, in UTC.

    Raises
    ------
    ValueError
        If `moment` has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is no instant")
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def human_names(person_name: str) -> list[Json]:
    """HumanName of each component group of a DICOM person name (PS3.5 6.2.1.1).

    With more than one group each says whether it is alphabetic, ideographic or phonetic.
    """
    kinds = ("ABC", "IDE", "SYL")
    groups = [(kind, _human_name(group)) for kind, group in zip(kinds, person_name.split("="), strict=False)]
    named = [(kind, name) for kind, name in groups if name]
    if len(named) > 1 or any(kind != "ABC" for kind, _ in named):
        return [
            {"extension": [{"url": _NAME_REPRESENTATION, "valueCode": kind}], **name} for kind, name in named
        ]
    return [name for _, name in named]


def _human_name(group: str) -> Json:
    parts = [" ".join(part.split()) for part in group.split("^")]
    family, given, middle, prefix, suffix = (parts + [""] * 5)[:5]
    text = " ".join(part for part in (prefix, given, middle, family, suffix) if part)
    name: Json = {"text": text, "family": family, "given": [part for part in (given, middle) if part]}
    name |= {"prefix": [prefix] if prefix else [], "suffix": [suffix] if suffix else []}
    return {key: value for key, value in name.items() if value}


def coding(code: Code, settings: FhirIdentity) -> Json | None:
    """The Coding of a coded concept, or None if its scheme has no system.

    It has no display: an SR may give any meaning (PS3.3 8.3), while receivers check displays and refuse
    others than the code system's. The meaning is the text of the concept.
    """
    system = settings.code_system(code.scheme)
    return {"system": system, "code": code.value} if system else None


def concept(code: Code, settings: FhirIdentity, *others: Code, text: str = "") -> Json:
    """The CodeableConcept of a code and its translations; a private scheme leaves the text only."""
    return codeable((coding(each, settings) for each in (code, *others)), text or code.meaning or code.value)


def codeable(codings: Iterable[Json | None], text: str) -> Json:
    """A CodeableConcept of the codings that exist."""
    found = [each for each in codings if each]
    return ({"coding": found} if found else {}) | ({"text": text} if text else {})


def quantity(value: float, unit: Code) -> Json:
    """The Quantity of a number exactly as the SR says it; UCUM units carry their code."""
    whole: Json = {"value": value, "unit": unit.meaning or unit.value}
    if unit.scheme == "UCUM":
        whole |= {"system": _UCUM_SYSTEM, "code": unit.value}
    return whole
