# SPDX-License-Identifier: Apache-2.0
"""Manifests: the shipped one, and every fault with its place."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_apps.catalog import BUILT_IN, catalog, load_app
from ai_apps.inference.onnx_session import ModelError
from ai_apps.manifest import ManifestError, RunLimits, WorkitemTemplate, read_manifest
from profiles.codes import WORKITEM_LUNG_CT
from profiles.order import Priority

SHIPPED = BUILT_IN / "lung_ct" / "app.yaml"


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    return loaded


def written(folder: Path, document: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "app.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_shipped_app_is_what_the_tables_say() -> None:
    manifest = catalog()["lung-ct"]
    assert manifest.workitem_code == WORKITEM_LUNG_CT
    assert manifest.label == "Demonstration, not for clinical use"
    assert manifest.requires.modalities == ("CT",)
    model = manifest.model
    assert model is not None
    assert model.path.stat().st_size <= 5 * 1024 * 1024
    assert hashlib.sha256(model.path.read_bytes()).hexdigest() == model.sha256


def test_parameters_have_defaults_and_bounds() -> None:
    manifest = read_manifest(SHIPPED)
    assert manifest.parameter_values({})["threshold"] == "0.5"
    assert manifest.parameter_values({"refine": "false"})["refine"] == "false"
    with pytest.raises(ManifestError) as refused:
        manifest.parameter_values({"threshold": "2", "refine": "maybe", "boundary_hu": "x", "speed": "1"})
    assert [str(fault) for fault in refused.value.faults] == [
        "parameters.speed: no such parameter",
        "parameters.threshold: must be within 0.01 to 0.99",
        "parameters.refine: must be true or false",
        "parameters.boundary_hu: must be a number",
    ]


FAULTS = [
    ("name", "Lung CT", "name: must be lower-case"),
    ("version", "", "version: must be text"),
    ("manufacturer", 5, "manufacturer: must be text"),
    ("entry", "os.system('x')", "entry: must be module:Class"),
    ("workitem_code", "AW1001", "workitem_code: must be a mapping"),
    ("requires", {"modalities": "CT"}, "requires.modalities: must be a list"),
    ("requires", {"minimum_slices": 0}, "requires.minimum_slices: must be a whole number"),
    ("requires", {"sop_class_uids": ["1.2.x"]}, "requires.sop_class_uids: must be well-formed"),
    ("parameters", ["threshold"], "parameters: must be a mapping"),
    ("parameters", {"a": {"kind": "date", "description": "d"}}, "parameters.a.kind: must be number"),
    (
        "parameters",
        {"a": {"kind": "number", "default": "9", "maximum": 3, "description": "d"}},
        "parameters.a.default: must be within",
    ),
    ("model", {}, "model.sha256: must be text"),
    ("model", {"sha256": "abc"}, "model.sha256: must be 64"),
    ("model", {"spacing_mm": -1}, "model.spacing_mm: must be a number"),
    ("model", {"neighbours": 99}, "model.neighbours: must be a whole number"),
    ("model", {"scale": {"offset_hu": True}}, "model.scale.offset_hu: must be a number"),
    ("workitem", "HIGH", "workitem: must be a mapping"),
    ("workitem", {"priority": "URGENT"}, "workitem.priority: must be HIGH, MEDIUM, LOW"),
    ("workitem", {"label": "x" * 65}, "workitem.label: must be text"),
    ("workitem", {"station_class": "x" * 17}, "workitem.station_class: must be text"),
    ("workitem", {"expected_s": 0}, "workitem.expected_s: must be seconds"),
    ("workitem", {"expected_s": "1 h"}, "workitem.expected_s: must be a number"),
    ("workitem", {"expected_s": 60, "expires_s": 30}, "workitem.expires_s: must not be before"),
    ("workitem", {"surprise": 1}, "workitem.surprise: no such key"),
    ("limits", [], "limits: must be a mapping"),
    ("limits", {"run_s": -1}, "limits.run_s: must be seconds"),
    ("limits", {"silence_s": 1e12}, "limits.silence_s: must be seconds"),
    ("limits", {"tries": 0}, "limits.tries: must be a whole number"),
    ("limits", {"tries": 1.5}, "limits.tries: must be a whole number"),
    ("limits", {"surprise": 1}, "limits.surprise: no such key"),
    ("surprise", 1, "surprise: no such key"),
]


@pytest.mark.parametrize(("key", "value", "fault"), FAULTS, ids=[f[2].split(":")[0] for f in FAULTS])
def test_each_fault_has_its_place(key: str, value: Any, fault: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**content(), key: value})
    with pytest.raises(ManifestError) as refused:
        read_manifest(path)
    assert any(str(found).startswith(f"{path} {fault}") for found in refused.value.faults)


def test_template_and_limits_are_read(tmp_path: Path) -> None:
    document = {
        **content(),
        "workitem": {"priority": "HIGH", "label": "Lung", "station_class": "GPU", "expected_s": 60},
        "limits": {"run_s": 90, "silence_s": 30.5, "tries": 2},
    }
    manifest = read_manifest(written(tmp_path, document))
    assert manifest.workitem == WorkitemTemplate(
        priority=Priority.HIGH, label="Lung", station_class="GPU", expected_s=60
    )
    assert manifest.limits == RunLimits(run_s=90, silence_s=30.5, tries=2)


def test_template_and_limits_may_be_left_out(tmp_path: Path) -> None:
    document = {key: value for key, value in content().items() if key not in ("workitem", "limits")}
    manifest = read_manifest(written(tmp_path, document))
    assert (manifest.workitem, manifest.limits) == (WorkitemTemplate(), RunLimits())


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, {"name": "x"})
    with pytest.raises(ManifestError) as refused:
        read_manifest(path)
    assert len(refused.value.faults) >= 6


@pytest.mark.parametrize(
    "text",
    ["a: [", "\x00", "- 1", "!!python/object/apply:os.getcwd []"],
    ids=["torn", "nul", "list", "object"],
)
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError):
        read_manifest(path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "app.yaml")


def test_apps_of_the_operator_join_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "app.py").write_text(
        "class Other:\n"
        "    def __init__(self, manifest, *, threads, use_gpu):\n"
        "        self.name = manifest.name\n"
    )
    document = {**content(), "name": "other", "entry": "./app.py:Other"}
    del document["model"]
    written(tmp_path / "other", document)
    found = catalog([tmp_path])
    assert set(found) >= {"lung-ct", "other"}
    assert load_app(found["other"]).name == "other"  # type: ignore[attr-defined]


def test_a_name_comes_once(tmp_path: Path) -> None:
    written(tmp_path / "again", content())
    with pytest.raises(ManifestError, match="lung-ct comes twice"):
        catalog([tmp_path])


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a folder"):
        catalog([tmp_path / "gone"])


@pytest.mark.parametrize(
    "entry",
    ["./gone.py:App", "./../app.py:App", "no.such.module:App", "ai_apps.contract:Nothing"],
    ids=["file", "outside", "module", "class"],
)
def test_code_that_cannot_be_loaded_is_a_model_error(entry: str, tmp_path: Path) -> None:
    path = written(tmp_path / "app", {**content(), "entry": entry})
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_app(read_manifest(path))
