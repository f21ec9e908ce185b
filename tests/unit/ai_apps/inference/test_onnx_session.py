# SPDX-License-Identifier: Apache-2.0
"""Loading the shipped model, and every way a model can be the wrong one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_apps.catalog import catalog
from ai_apps.inference.onnx_session import ModelError, OnnxSession
from ai_apps.manifest import NetworkModel
from profiles.codes import EQUIPMENT_FAILURE


@pytest.fixture(name="model", scope="module")
def _model() -> NetworkModel:
    model = catalog()["lung-ct"].model
    assert model is not None
    return model


def test_the_shipped_model_runs_on_any_size(model: NetworkModel) -> None:
    session = OnnxSession(model, threads=1, use_gpu=False)
    assert session.device == "cpu"
    for shape in [(1, 3, 64, 48), (2, 3, 8, 136)]:
        found = session.run(np.zeros(shape, dtype=np.float32))
        assert found.shape == (shape[0], 1, *shape[2:])
        # All air: no lung anywhere.
        assert found.max() < 0.5


def test_asking_for_a_gpu_works_without_one(model: NetworkModel, capfd: pytest.CaptureFixture[str]) -> None:
    session = OnnxSession(model, threads=1)
    assert session.device in ("cpu", "cuda")
    session.run(np.zeros((1, 3, 16, 16), dtype=np.float32))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_another_file_than_the_manifest_names_is_refused(model: NetworkModel, tmp_path: Path) -> None:
    changed = tmp_path / "model.onnx"
    changed.write_bytes(model.path.read_bytes() + b"\x00")
    with pytest.raises(ModelError, match="not the one") as refused:
        OnnxSession(replace(model, path=changed))
    assert refused.value.reason == EQUIPMENT_FAILURE


def test_a_missing_file_is_refused(model: NetworkModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        OnnxSession(replace(model, path=tmp_path / "gone.onnx"))


def test_bytes_that_are_no_model_are_refused(model: NetworkModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be loaded"):
        OnnxSession(replace(model, path=path, sha256=hashlib.sha256(b"no model").hexdigest()))


def test_names_that_the_graph_lacks_are_refused(model: NetworkModel) -> None:
    with pytest.raises(ModelError, match="no such input or output"):
        OnnxSession(replace(model, output_name="logits"))


def test_images_that_do_not_fit_are_a_model_error(model: NetworkModel) -> None:
    session = OnnxSession(model, threads=1, use_gpu=False)
    with pytest.raises(ModelError, match="failed on these images"):
        session.run(np.zeros((1, 7, 16, 16), dtype=np.float32))


def test_numbers_that_are_none_are_a_model_error(model: NetworkModel) -> None:
    session = OnnxSession(model, threads=1, use_gpu=False)
    with pytest.raises(ModelError, match="not numbers"):
        session.run(np.full((1, 3, 16, 16), np.nan, dtype=np.float32))


@pytest.mark.gpu
def test_cuda_and_cpu_agree(model: NetworkModel) -> None:
    gpu = OnnxSession(model)
    if gpu.device != "cuda":
        pytest.skip("no NVIDIA GPU")
    cpu = OnnxSession(model, use_gpu=False)
    batch = np.random.default_rng(5).random((8, 3, 128, 128), dtype=np.float32)
    ours, theirs = cpu.run(batch), gpu.run(batch)
    # Sums of float32 in another order; far below what could move a mask's border.
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert np.mean((ours >= 0.5) != (theirs >= 0.5)) < 1e-4
