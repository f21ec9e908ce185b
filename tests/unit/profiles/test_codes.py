# SPDX-License-Identifier: Apache-2.0
"""Each code means one thing, fits a Code Sequence item, and means what PS3.16 says it means."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as dictionary

from ai_apps.catalog import catalog
from profiles import codes
from profiles.codes import Code

TABLE = {
    **{name: value for name, value in vars(codes).items() if isinstance(value, Code)},
    **{f"title {one.value}": one for one in codes.MEASUREMENT_REPORT_TITLES},
    **{f"procedure {modality}": one for modality, one in codes.PROCEDURE_BY_MODALITY.items()},
    **{f"workitem of {name}": manifest.workitem_code for name, manifest in catalog().items()},
}
OF_THE_PROJECT = "99AIRWAY"


def in_the_dictionary(scheme: str) -> dict[str, str]:
    """Code values of a scheme with the meanings of pydicom's copy of PS3.16, which is not ours."""
    concepts = getattr(dictionary, scheme)
    return {getattr(concepts, name).value: getattr(concepts, name).meaning for name in concepts.dir()}


def test_a_code_has_one_meaning() -> None:
    meanings: dict[tuple[str, str], set[str]] = {}
    for code in TABLE.values():
        meanings.setdefault((code.value, code.scheme), set()).add(code.meaning)
    assert {key: found for key, found in meanings.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", TABLE)
def test_a_code_fits_its_attributes(name: str) -> None:
    code = TABLE[name]
    assert 0 < len(code.value) <= 16  # SH
    assert 0 < len(code.scheme) <= 16  # SH
    assert 0 < len(code.meaning) <= 64  # LO
    assert "\\" not in code.value + code.scheme + code.meaning


def test_meanings_of_dicom_are_those_of_the_dictionary() -> None:
    known = in_the_dictionary("DCM")
    ours = {code.value: code.meaning for code in TABLE.values() if code.scheme == "DCM"}
    shared = ours.keys() & known.keys()
    assert len(shared) > 40
    assert {value: ours[value] for value in shared} == {value: known[value] for value in shared}


@pytest.mark.parametrize("scheme", ["DCM", "SCT"])
def test_no_code_is_invented(scheme: str) -> None:
    known = in_the_dictionary(scheme)
    assert {code.value for code in TABLE.values() if code.scheme == scheme} - known.keys() == set()


def test_only_the_project_s_own_scheme_is_private() -> None:
    private = {code.scheme for code in TABLE.values() if code.scheme.startswith("99")}
    assert private == {OF_THE_PROJECT, "99IHE"}  # the latter is read, never written (AIR 1.1)
