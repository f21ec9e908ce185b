# SPDX-License-Identifier: Apache-2.0
"""One ONNX model, loaded once, checked against its manifest, on CUDA if that works and else on the CPU.

``onnxruntime.get_available_providers()`` names CUDA on machines without a GPU; only the providers of a
session that was made tell the truth.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ai_apps.contract import AppError
from ai_apps.manifest import NetworkModel
from profiles.codes import EQUIPMENT_FAILURE

logger = logging.getLogger(__name__)

_SIZE_LIMIT = 2 * 1024**3
_FATAL, _ERROR = 4, 3


class ModelError(AppError):
    """The model cannot be used; not the fault of the images."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EQUIPMENT_FAILURE)


class OnnxSession:
    """A loaded model.

    Parameters
    ----------
    model
        What the manifest says of it.
    threads
        CPU threads; 0 lets onnxruntime choose.
    use_gpu
        Try CUDA first.

    Raises
    ------
    ModelError
        If the file is missing, is not the one of the manifest, or cannot be loaded.
    """

    def __init__(self, model: NetworkModel, *, threads: int = 0, use_gpu: bool = True) -> None:
        content = _verified(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERROR
        # Threads that spin while they wait take the cores of the gateway beside them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = _created(content, options, use_gpu)
        self._model = model
        inputs = {tensor.name for tensor in self._session.get_inputs()}
        outputs = {tensor.name for tensor in self._session.get_outputs()}
        if model.input_name not in inputs or model.output_name not in outputs:
            raise ModelError("the model has no such input or output as its manifest says")
        logger.info("model loaded", extra={"action": "model-loaded", "device": self.device})

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``: where the session really runs."""
        return "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output of the model for `batch`.

        Raises
        ------
        ModelError
            If the runtime fails or gives numbers that are none.
        """
        try:
            (found,) = self._session.run([self._model.output_name], {self._model.input_name: batch})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelError("the model failed on these images") from error
        values = np.asarray(found, dtype=np.float32)
        if not np.all(np.isfinite(values)):
            raise ModelError("the model gave values that are not numbers")
        return values


def _verified(model: NetworkModel) -> bytes:
    """The bytes of the model file; what is checked is what is loaded."""
    try:
        if model.path.stat().st_size > _SIZE_LIMIT:
            raise ModelError("the model file is too large")
        content = model.path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model file {model.path.name} cannot be read") from error
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise ModelError(f"the model file {model.path.name} is not the one its manifest names")
    return content


def _created(
    content: bytes, options: onnxruntime.SessionOptions, use_gpu: bool
) -> onnxruntime.InferenceSession:
    if use_gpu and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        _load_cuda_libraries()
        # Without a GPU the runtime tells so at error level for every session; that is no error here.
        onnxruntime.set_default_logger_severity(_FATAL)
        try:
            return onnxruntime.InferenceSession(
                content,
                options,
                # No TF32: results must not depend on where they were computed.
                providers=[("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            logger.info("no CUDA", extra={"action": "cuda-refused", "error": type(error).__name__})
        finally:
            onnxruntime.set_default_logger_severity(_ERROR)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError("the model cannot be loaded") from error


def _load_cuda_libraries() -> None:
    """Load CUDA and cuDNN where they came as Python packages; the runtime does not find those by itself."""
    if importlib.util.find_spec("nvidia") is not None and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls(directory="")
