# SPDX-License-Identifier: Apache-2.0
"""Whole data sets of stored files, and where their bulk data lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from task_manager.study.content import UNREADABLE, ContentReader, find_bulk
from task_manager.study.elements import ElementReader, LeftOut, Limits
from tests.instances import ct_data_set, part10

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


def written(folder: Path, made: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    path = folder / "one.dcm"
    path.write_bytes(part10(made, syntax))
    return path


def with_bulk() -> Dataset:
    made = ct_data_set(1)
    made.ImageComments = "x" * 3000
    made.ICCProfile = bytes(range(256)) * 8
    inner = ct_data_set(2, pixels=1024)
    made.IconImageSequence = [ct_data_set(3, pixels=1024), inner]
    return made


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_large_text_is_kept_and_large_binary_is_named(tmp_path: Path, syntax: str) -> None:
    path = written(tmp_path, with_bulk(), syntax)
    content = ContentReader().read(path, "at/".__add__)
    assert content["00204000"]["Value"] == ["x" * 3000]
    assert content["00282000"] == {"vr": "OB", "BulkDataURI": "at/00282000"}
    assert content["7FE00010"]["BulkDataURI"] == "at/7FE00010"
    icons = content["00880200"]["Value"]
    assert [icon["7FE00010"]["BulkDataURI"] for icon in icons] == [
        "at/00880200/1/7FE00010",
        "at/00880200/2/7FE00010",
    ]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("where", "size"),
    [("00282000", 2048), ("00880200/2/7FE00010", 1024), ("7FE00010", 512), ("00204000", 3000)],
)
def test_bulk_data_are_found_where_they_are(tmp_path: Path, syntax: str, where: str, size: int) -> None:
    path = written(tmp_path, with_bulk(), syntax)
    value = find_bulk(path, where)
    assert value is not None
    data = value.inflated if value.inflated is not None else path.read_bytes()
    expected = b"x" * size if where == "00204000" else bytes(range(256)) * (size // 256)
    assert data[value.start : value.end] == expected


@pytest.mark.parametrize("where", ["00880200", "00880200/3/7FE00010", "00091001", "", "7FE0"])
def test_what_is_not_there(tmp_path: Path, where: str) -> None:
    assert find_bulk(written(tmp_path, with_bulk()), where) is None


def test_readers_of_a_series_do_not_mix_its_instances(tmp_path: Path) -> None:
    reader = ContentReader()
    for number in (1, 2, 3):
        made = ct_data_set(number, PatientName=f"Ä^{number}", SpecificCharacterSet="ISO_IR 192")
        content = reader.read(written(tmp_path, made), str)
        assert content["00200013"]["Value"] == [number]
        assert content["00100010"]["Value"] == [{"Alphabetic": f"Ä^{number}"}]
    latin = ct_data_set(4, PatientName="Ä^1", SpecificCharacterSet="ISO_IR 100")
    assert reader.read(written(tmp_path, latin), str)["00100010"]["Value"] == [{"Alphabetic": "Ä^1"}]


def test_a_file_that_ends_early_is_unreadable(tmp_path: Path) -> None:
    path = written(tmp_path, with_bulk())
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UNREADABLE):
        ContentReader().read(path, str)


def test_the_limits_of_a_reader() -> None:
    data = part10(ct_data_set(1, ImageComments="y" * 100))
    start = 144 + int.from_bytes(data[140:144], "little")
    left_out: list[LeftOut] = []

    def note(one: LeftOut) -> None:
        left_out.append(one)

    reader = ElementReader(
        data, explicit=True, little_endian=True, limits=Limits(value=50, binary=0), stand_in=note
    )
    assert "00204000" not in reader.read(start)
    assert [(one.path, one.vr, one.end - one.start) for one in left_out] == [
        ("00204000", "LT", 100),
        ("7FE00010", "OW", 512),
    ]
