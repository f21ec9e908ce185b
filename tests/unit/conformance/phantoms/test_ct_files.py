# SPDX-License-Identifier: Apache-2.0
"""The phantom's files: valid, deterministic and with the patient that was asked for."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from conformance.phantoms.__main__ import main
from conformance.phantoms.chest import ChestPhantom, Plane, make_ct_chest
from conformance.phantoms.ct_files import datasets, sop_instance_uids, study_instance_uid, write_series

SPEC = ChestPhantom(
    seed=3, shape=(8, 96, 96), patient_name="Müller^Jürgen=山田^太郎", issuer_of_patient_id="HOSP"
)


def test_files_carry_geometry_patient_and_voxels(tmp_path: Path) -> None:
    made = make_ct_chest(replace(SPEC, plane=Plane.OBLIQUE, accession_number="A1"))
    paths = write_series(made, tmp_path / "new" / "folder")
    assert len(paths) == 8
    for index, path in enumerate(paths):
        image = pydicom.dcmread(path)
        assert image.SOPInstanceUID == sop_instance_uids(made)[index]
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert str(image.PatientName) == SPEC.patient_name
        assert image.IssuerOfPatientID == "HOSP"
        assert image.AccessionNumber == "A1"
        assert np.array_equal(image.pixel_array.astype(int) + int(image.RescaleIntercept), made.hu[index])
        row, column = np.array(image.ImageOrientationPatient[:3]), np.array(image.ImageOrientationPatient[3:])
        spacing = image.PixelSpacing
        at = np.array(image.ImagePositionPatient) + row * spacing[1] * 5 + column * spacing[0] * 7
        assert at == pytest.approx((made.affine @ [index, 7, 5, 1])[:3], abs=1e-4)


def test_equal_specifications_give_equal_bytes(tmp_path: Path) -> None:
    first = write_series(make_ct_chest(SPEC), tmp_path / "a")
    second = write_series(make_ct_chest(SPEC), tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_changing_one_slice_leaves_the_others() -> None:
    first, second, *_ = datasets(make_ct_chest(SPEC))
    first.PatientID = "OTHER"
    assert second.PatientID == SPEC.patient_id


def test_planes_share_the_study_and_not_the_series() -> None:
    axial, coronal = make_ct_chest(SPEC), make_ct_chest(replace(SPEC, plane=Plane.CORONAL))
    assert study_instance_uid(axial) == study_instance_uid(coronal)
    assert not set(sop_instance_uids(axial)) & set(sop_instance_uids(coronal))


@pytest.mark.peers
@pytest.mark.parametrize("plane", list(Plane))
def test_dciodvfy_finds_nothing(plane: Plane, tmp_path: Path) -> None:
    paths = write_series(make_ct_chest(replace(SPEC, plane=plane)), tmp_path)
    said = subprocess.run(["dciodvfy", str(paths[3])], capture_output=True, text=True, check=False)
    lines = [line for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    assert lines == ["CTImage"]


def test_command_line_writes_the_study_and_tells_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "ct-chest",
        "--out",
        str(tmp_path),
        "--slices",
        "6",
        "--size",
        "64",
        "--study-uid",
        "1.2.3.4",
    ]
    assert main(arguments) == 0
    truth = json.loads(capsys.readouterr().out)
    assert truth["study_instance_uid"] == "1.2.3.4"
    assert truth["files"] == len(list(tmp_path.iterdir())) == 6
    assert truth["total_ml"] == pytest.approx(truth["left_ml"] + truth["right_ml"], abs=0.02)


@pytest.mark.parametrize("wrong", [["--study-uid", "1.2.x"], ["--slices", "1"]], ids=["uid", "slices"])
def test_command_line_refuses_the_impossible(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["ct-chest", "--out", str(tmp_path), *wrong])
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err
