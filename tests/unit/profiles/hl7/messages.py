# SPDX-License-Identifier: Apache-2.0
"""Literal order messages for the tests of this folder and of the MLLP door."""

from __future__ import annotations

MSH = "MSH|^~\\&|RIS|HOSP|AIRWAY|HOSP|20260504085900||ORM^O01^ORM_O01|RIS0002|P|2.3.1||||||UNICODE UTF-8"
PID = "PID|1||12345^^^HOSP&1.2.3&ISO^MR||Roe^Jane^^^^^L||19700101|F"
PV1 = "PV1|1|O||||||77^Ref^Anna^B^Jr^Dr|||||||||||V123^^^HOSP"
ORC = "ORC|NW|P100^RIS|F100^RIS||SC||1^^^20260504091000^^S||20260504085800|||1234^Smith^Anna"
OBR = (
    "OBR|1|P100^RIS|F100^RIS|CTCHEST^CT chest^99LOC||||||||||||1234^Smith^Anna||ACC100|RP100|SPS100||||CT"
    "|||1^^^20260504091000^^S||||R05^Cough^I10"
)
ZDS = "ZDS|1.2.840.99999.1^RIS^Application^DICOM"


def message(*segments: str) -> bytes:
    """The bytes of `segments`; the whole sample order if none are given."""
    return "".join(s + "\r" for s in segments or (MSH, PID, PV1, ORC, OBR, ZDS)).encode()


def changed(segment: str, number: int, value: str) -> str:
    """`segment` with field `number` set to `value`; numbers of MSH are those of HL7."""
    fields = segment.split("|")
    position = number - 1 if segment.startswith("MSH") else number
    fields += [""] * (position + 1 - len(fields))
    fields[position] = value
    return "|".join(fields)


def with_field(name: str, number: int, value: str) -> bytes:
    """The sample order with one field changed."""
    return message(
        *(changed(s, number, value) if s.startswith(name) else s for s in (MSH, PID, PV1, ORC, OBR, ZDS))
    )
