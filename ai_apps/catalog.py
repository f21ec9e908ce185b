# SPDX-License-Identifier: Apache-2.0
"""The apps that can be run: those that come with Airway and those in folders of the operator.

A folder of apps holds one sub-folder per app with its ``app.yaml``. Code is loaded by :func:`load_app` only,
in the process that runs the app; listing a catalogue loads none.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

from ai_apps.contract import App
from ai_apps.inference.onnx_session import ModelError
from ai_apps.manifest import Manifest, ManifestError, read_manifest
from profiles.faults import Fault

BUILT_IN = Path(__file__).parent / "apps"


def catalog(extra_folders: Sequence[Path] = ()) -> Mapping[str, Manifest]:
    """Name to manifest of every app.

    Parameters
    ----------
    extra_folders
        Folders of apps beside the built-in ones.

    Raises
    ------
    ManifestError
        With every fault of every manifest, and for a name that comes twice.
    """
    faults: list[Fault] = []
    found: dict[str, Manifest] = {}
    for folder in (BUILT_IN, *extra_folders):
        if not folder.is_dir():
            faults.append(Fault(str(folder), "not a folder"))
            continue
        for path in sorted(folder.glob("*/app.yaml")):
            try:
                manifest = read_manifest(path)
            except ManifestError as error:
                faults.extend(error.faults)
                continue
            if manifest.name in found:
                faults.append(Fault(f"{path} name", f"{manifest.name} comes twice"))
            found[manifest.name] = manifest
    if faults:
        raise ManifestError(*faults)
    return found


def load_app(manifest: Manifest, *, threads: int = 0, use_gpu: bool = True) -> App:
    """The app of `manifest`, ready to run.

    Parameters
    ----------
    threads
        CPU threads for inference; 0 lets the runtime choose.
    use_gpu
        Whether a GPU may be used.

    Raises
    ------
    ModelError
        If the code of the entry cannot be loaded, or the model cannot.
    """
    module_name, _, class_name = manifest.entry.partition(":")
    try:
        if module_name.startswith("./"):
            module = _beside(manifest, module_name)
        else:
            module = importlib.import_module(module_name)
        factory = getattr(module, class_name)
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise ModelError(f"the code of app {manifest.name} cannot be loaded") from error
    return cast(App, factory(manifest, threads=threads, use_gpu=use_gpu))


def preload() -> None:
    """Import the code of the built-in apps ahead of :func:`load_app`, which tells what is wrong with it."""
    for manifest in catalog().values():
        module_name = manifest.entry.partition(":")[0]
        if not module_name.startswith("./"):
            with contextlib.suppress(Exception):
                importlib.import_module(module_name)


def _beside(manifest: Manifest, name: str) -> ModuleType:
    """The module in the file `name` of the manifest's folder."""
    path = (manifest.folder / name).resolve()
    if not path.is_relative_to(manifest.folder.resolve()):
        raise ImportError("the entry leaves the folder of its manifest")
    spec = importlib.util.spec_from_file_location(f"airway_app_{manifest.name.replace('-', '_')}", path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
