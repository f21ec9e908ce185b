# SPDX-License-Identifier: Apache-2.0
"""The lung app against phantoms it has never seen, and with another model against a real study."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ai_apps.apps.lung_ct.app import LungCt
from ai_apps.catalog import BUILT_IN, catalog, load_app
from ai_apps.contract import App, AppError, AppInput
from ai_apps.inference.onnx_session import ModelError, OnnxSession
from ai_apps.manifest import read_manifest
from conformance.phantoms import ChestPhantom, Plane, make_ct_chest, sop_instance_uids, write_series
from profiles.air.model import Analysis, Region
from profiles.codes import EMPHYSEMA_INDEX, LEFT, MEAN_ATTENUATION, RIGHT, RIGHT_AND_LEFT, VOLUME, Code

SHARED = Path(__file__).parents[5].parent / "shared" / "data"


@pytest.fixture(name="app", scope="module")
def _app() -> App:
    return load_app(catalog()["lung-ct"], threads=2, use_gpu=False)


def number(region: Region, name: Code) -> float:
    (value,) = [m.value for m in region.measurements if m.name == name]
    assert value is not None
    return value


def quiet(percent: int, text: str) -> None:
    assert 0 <= percent <= 100
    assert text


def analysed(app: App, paths: list[Path], **parameters: str) -> Analysis:
    return app.run(AppInput(paths=tuple(paths), parameters=parameters), quiet)


AXIAL = ChestPhantom(shape=(40, 112, 112))
SPECS = [
    pytest.param(AXIAL, id="axial"),
    pytest.param(replace(AXIAL, reversed_order=True), id="reversed"),
    pytest.param(replace(AXIAL, plane=Plane.SAGITTAL, shape=(64, 96, 112)), id="sagittal"),
    pytest.param(replace(AXIAL, plane=Plane.CORONAL, shape=(52, 112, 112)), id="coronal"),
    pytest.param(replace(AXIAL, plane=Plane.OBLIQUE, shape=(56, 112, 112)), id="oblique"),
    pytest.param(replace(AXIAL, gantry_tilt_deg=12), id="tilted"),
    pytest.param(replace(AXIAL, shape=(24, 96, 96), noise_hu=20, emphysema_percent=15), id="thick"),
]


@pytest.mark.parametrize("seed", [7001, 7002])
@pytest.mark.parametrize("spec", SPECS)
def test_volumes_are_within_two_percent_of_the_truth(
    spec: ChestPhantom, seed: int, app: App, tmp_path: Path
) -> None:
    made = make_ct_chest(replace(spec, seed=seed))
    # Whatever order the files come in.
    found = analysed(app, sorted(write_series(made, tmp_path), key=lambda path: hash(path.name) % 97))
    left, right, both = found.regions
    assert number(left, VOLUME) == pytest.approx(made.left_ml, rel=0.02)
    assert number(right, VOLUME) == pytest.approx(made.right_ml, rel=0.02)
    assert number(both, VOLUME) == pytest.approx(made.total_ml, rel=0.02)
    assert number(both, MEAN_ATTENUATION) == pytest.approx(made.mean_hu, abs=8)
    assert number(both, EMPHYSEMA_INDEX) == pytest.approx(made.emphysema_voxel_percent, abs=0.3)
    # Masks lie slice by slice on the images named.
    order = [sop_instance_uids(made).index(uid) for uid in found.sop_instance_uids]
    for region, truth in ((left, made.left), (right, made.right), (both, made.left | made.right)):
        same = np.count_nonzero(region.mask & truth[order])
        assert 2 * same / (region.mask.sum() + truth.sum()) > 0.97
    assert (left.laterality, right.laterality, both.laterality) == (LEFT, RIGHT, RIGHT_AND_LEFT)
    assert np.array_equal(both.mask, left.mask | right.mask)


def test_the_segmentation_comes_from_the_network(app: App, tmp_path: Path) -> None:
    """Without the border's refinement the network alone still finds the lungs and nothing else."""
    made = make_ct_chest(replace(AXIAL, seed=7003))
    found = analysed(app, write_series(made, tmp_path), refine="false")
    lungs = made.left | made.right
    mask = found.regions[2].mask
    assert 2 * np.count_nonzero(mask & lungs) / (mask.sum() + lungs.sum()) > 0.93
    # Airway, couch, outside air and bowel gas are as dark as lung and stay out.
    dark = (made.hu < -800) & ~lungs
    assert np.count_nonzero(mask & dark) < 0.01 * np.count_nonzero(lungs)


def test_the_algorithm_is_named_with_its_label_and_parameters(app: App, tmp_path: Path) -> None:
    made = make_ct_chest(ChestPhantom(seed=7004, shape=(14, 48, 48), spacing_mm=(21, 8.4, 8.4)))
    found = analysed(app, write_series(made, tmp_path), threshold="0.4", maximum_step_mm="25")
    assert found.algorithm.name == "lung-ct"
    assert found.algorithm.parameters["label"] == "Demonstration, not for clinical use"
    assert found.algorithm.parameters["threshold"] == "0.4"
    assert found.algorithm.parameters["refine"] == "true"
    model = catalog()["lung-ct"].model
    assert model is not None
    assert found.algorithm.weights_sha256 == model.sha256


def test_a_chest_without_lungs_has_regions_without_numbers(app: App, tmp_path: Path) -> None:
    made = make_ct_chest(ChestPhantom(seed=7005, shape=(24, 64, 64)))
    solid = replace(made, hu=np.where(made.left | made.right, 40, made.hu).astype(np.int16))
    found = analysed(app, write_series(solid, tmp_path))
    assert [region.measurements for region in found.regions] == [(), (), ()]
    assert not any(region.mask.any() for region in found.regions)


def test_one_lung_alone_is_measured_on_its_side(app: App, tmp_path: Path) -> None:
    made = make_ct_chest(replace(AXIAL, seed=7006))
    solid = replace(made, hu=np.where(made.left, 40, made.hu).astype(np.int16))
    left, right, both = analysed(app, write_series(solid, tmp_path)).regions
    assert not left.mask.any()
    assert number(right, VOLUME) == pytest.approx(made.right_ml, rel=0.02)
    assert number(both, VOLUME) == number(right, VOLUME)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"speed": "fast"}, "no such parameter"), ({"threshold": "7"}, "must be within")],
    ids=["unknown", "bounds"],
)
def test_bad_parameters_are_refused(parameters: dict[str, str], message: str, app: App) -> None:
    with pytest.raises(AppError, match=message):
        app.run(AppInput(paths=(), parameters=parameters), quiet)


def test_no_images_are_refused(app: App) -> None:
    with pytest.raises(AppError, match="0 slices"):
        app.run(AppInput(paths=()), quiet)


def test_a_manifest_without_a_model_is_refused() -> None:
    with pytest.raises(ModelError, match="names no model"):
        LungCt(replace(catalog()["lung-ct"], model=None))


@pytest.mark.real_data
def test_another_model_gives_its_published_volume_on_a_real_chest(tmp_path: Path) -> None:
    """9 mm apart, every slice with a frame of reference of its own: both need to be allowed."""
    with tarfile.open(SHARED / "ct-chest-lidc" / "dicom.tar.xz") as packed:
        packed.extractall(tmp_path / "images", filter="data")
    paths = tuple(path for path in sorted((tmp_path / "images").rglob("*")) if path.is_file())
    expected = json.loads((SHARED / "models" / "expected.json").read_text())
    truth = expected["ct_lung_unet_small.onnx"]["ct-chest-lidc"]
    model = SHARED / "models" / "ct_lung_unet_small.onnx"
    document = yaml.safe_load((BUILT_IN / "lung_ct" / "app.yaml").read_text())
    document |= {"name": "lung-ct-other", "manufacturer": "UNet-Small"}
    document["model"] = {
        "file": str(model),
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "input": "image",
        "output": "probability",
        "size_multiple": 8,
        "outside_hu": -1024,
        "scale": {"offset_hu": 1024},
    }
    document["parameters"]["refine"]["default"] = "false"
    document["parameters"]["maximum_step_mm"]["default"] = "5"
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(document))
    app = load_app(read_manifest(tmp_path / "app.yaml"), threads=2, use_gpu=False)
    with pytest.raises(AppError, match="frames of reference"):
        app.run(AppInput(paths=paths), quiet)
    allowed = {"allow_mixed_frame_of_reference": "true"}
    with pytest.raises(AppError, match=r"9\.0 mm apart"):
        app.run(AppInput(paths=paths, parameters=allowed), quiet)
    allowed["maximum_step_mm"] = "9.5"
    left, right, both = app.run(AppInput(paths=paths, parameters=allowed), quiet).regions
    assert number(both, VOLUME) == pytest.approx(truth["lung_volume_ml_two_largest_components"], rel=0.02)
    assert number(both, MEAN_ATTENUATION) == pytest.approx(truth["mean_hu"], abs=5)
    sides = sorted((number(left, VOLUME), number(right, VOLUME)), reverse=True)
    assert sides == pytest.approx(truth["components_kept_ml"], rel=0.02)


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_masks(app: App, tmp_path: Path) -> None:
    model = catalog()["lung-ct"].model
    assert model is not None
    if OnnxSession(model).device != "cuda":
        pytest.skip("no NVIDIA GPU")
    paths = write_series(make_ct_chest(replace(AXIAL, seed=7007)), tmp_path)
    on_gpu = analysed(load_app(catalog()["lung-ct"]), paths)
    for ours, theirs in zip(analysed(app, paths).regions, on_gpu.regions, strict=True):
        assert np.count_nonzero(ours.mask != theirs.mask) <= 1e-4 * np.count_nonzero(ours.mask)
