# SPDX-License-Identifier: Apache-2.0
"""What an app says about itself in ``app.yaml``: typed, and checked with every fault at once.

The manifest is data from outside like any other: unknown keys, wrong types and bad digests are faults with
``file key`` as path. It is read by the performer and shown by the gateway; nothing here loads code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from ai_apps.imaging.intensity import NetworkScale
from profiles.codes import Code
from profiles.faults import Fault
from profiles.order import Priority
from profiles.uids import is_uid

_SIZE_LIMIT = 256 * 1024
_LONGEST_S = 366 * 86_400.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(r"(\./)?[A-Za-z_.][\w./]*:[A-Za-z_]\w*")


class ManifestError(Exception):
    """A manifest cannot be used; `faults` names everything that is wrong with it."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(str(fault) for fault in faults))


class ParameterKind(StrEnum):
    """How the text of a parameter is read."""

    NUMBER = "number"
    FLAG = "flag"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A knob of an app; `minimum` and `maximum` bound numbers."""

    name: str
    kind: ParameterKind
    default: str
    description: str
    minimum: float = float("-inf")
    maximum: float = float("inf")

    def fault(self, text: str) -> str:
        """What is wrong with the value `text`, or nothing."""
        if self.kind is ParameterKind.FLAG and text not in ("true", "false"):
            return "must be true or false"
        if self.kind is ParameterKind.NUMBER:
            try:
                number = float(text)
            except ValueError:
                return "must be a number"
            if not self.minimum <= number <= self.maximum:
                return f"must be within {self.minimum:g} to {self.maximum:g}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkModel:
    """An ONNX model and what it was trained on.

    Attributes
    ----------
    path, sha256
        The file and its digest, lower-case hex.
    input_name, output_name
        Tensors of the graph.
    spacing_mm
        Voxel distance of the axial grid it works on; None for that of the source.
    neighbours
        Slices before and after that enter as further channels.
    size_multiple
        Rows and columns must be multiples of it.
    scale
        From Hounsfield units to input values.
    outside_hu
        Hounsfield units where the grid leaves the images.
    """

    path: Path
    sha256: str
    input_name: str
    output_name: str
    spacing_mm: float | None
    neighbours: int
    size_multiple: int
    scale: NetworkScale
    outside_hu: float = -1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequirements:
    """What images an app takes."""

    modalities: tuple[str, ...]
    sop_class_uids: tuple[str, ...]
    minimum_slices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkitemTemplate:
    """What workitems of an app look like unless a rule or an order says otherwise.

    Attributes
    ----------
    priority
        Scheduled Procedure Step Priority; None leaves it to the order.
    label, worklist_label
        Procedure Step Label and Worklist Label; empty ones are left to the task manager.
    station_class
        Scheduled Station Class that it is assigned to; empty for none.
    expected_s, expires_s
        Seconds from the start to the expected completion and to the expiration; None sets none.
    """

    priority: Priority | None = None
    label: str = ""
    worklist_label: str = ""
    station_class: str = ""
    expected_s: float | None = None
    expires_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """How long and how often an app may try; None leaves it to the site.

    Attributes
    ----------
    run_s
        Seconds for one run.
    silence_s
        Seconds after which a performer that is not heard counts as lost.
    tries
        How often work is tried before it waits for a person.
    """

    run_s: float | None = None
    silence_s: float | None = None
    tries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One app.

    Attributes
    ----------
    name, version, manufacturer, title
        Identity; `name` is that of the catalogue and of rules.
    label
        What people must be told wherever results are shown.
    entry
        ``package.module:Class``, or ``./file.py:Class`` beside the manifest.
    workitem_code
        Code of the scheduled workitem.
    requires, parameters, model
        Inputs, knobs, and the network if the app has one.
    folder
        Where the manifest lies.
    workitem, limits
        How its work is scheduled, and what bounds it.
    """

    name: str
    version: str
    manufacturer: str
    title: str
    label: str
    entry: str
    workitem_code: Code
    requires: InputRequirements
    parameters: tuple[Parameter, ...]
    model: NetworkModel | None
    folder: Path
    workitem: WorkitemTemplate = WorkitemTemplate()
    limits: RunLimits = RunLimits()

    def parameter_values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Every parameter with the given value or else its default.

        Raises
        ------
        ManifestError
            With a fault for each unknown name and bad value.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        faults = [Fault(f"parameters.{name}", "no such parameter") for name in given if name not in known]
        for name, text in given.items():
            if name in known and (wrong := known[name].fault(text)):
                faults.append(Fault(f"parameters.{name}", wrong))
        if faults:
            raise ManifestError(*faults)
        return {name: given.get(name, parameter.default) for name, parameter in known.items()}


class _Reader:
    """Takes keys out of a mapping, noting a fault for what is missing, wrong or left over."""

    def __init__(self, content: Any, where: str, faults: list[Fault]) -> None:
        self._where = where
        self._faults = faults
        if not isinstance(content, dict):
            self.fault("", "must be a mapping")
            content = {}
        self._left: dict[Any, Any] = dict(content)

    def fault(self, key: str, message: str) -> None:
        self._faults.append(
            Fault(f"{self._where}{'.' if key and self._where[-1:] != ' ' else ''}{key}", message)
        )

    def text(self, key: str, default: str | None = None, limit: int = 200) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or len(value) > limit or (default is None and not value.strip()):
            self.fault(key, f"must be text of 1 to {limit} characters")
            return ""
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            self.fault(key, "must be a number")
            return 0.0
        return float(value)

    def seconds(self, key: str, most: float) -> float | None:
        """A positive number up to `most`, or None if it is absent."""
        if self._left.get(key) is None:
            self._left.pop(key, None)
            return None
        value = self.number(key)
        if not 0 < value <= most:
            self.fault(key, f"must be seconds, more than 0 and at most {most:g}")
            return None
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self._left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fault(key, f"must be a whole number within {low} to {high}")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            self.fault(key, "must be a list of texts")
            return ()
        return tuple(value)

    def matching(self, key: str, pattern: re.Pattern[str], rule: str) -> str:
        value = self.text(key)
        if value and not pattern.fullmatch(value):
            self.fault(key, rule)
        return value

    def has(self, key: str) -> bool:
        return key in self._left

    def optional(self, key: str) -> Any:
        return self._left.pop(key, None)

    def inner(self, key: str) -> _Reader:
        return self.reader(key, self._left.pop(key, None))

    def reader(self, key: str, content: Any) -> _Reader:
        separator = "" if self._where.endswith(" ") else "."
        return _Reader(content, f"{self._where}{separator}{key}", self._faults)

    def code(self, key: str) -> Code:
        part = self.inner(key)
        found = Code(
            part.text("value", limit=16), part.text("scheme", limit=16), part.text("meaning", limit=64)
        )
        part.close()
        return found

    def close(self) -> None:
        for key in self._left:
            self.fault(str(key)[:64], "no such key")


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file `path`.

    Raises
    ------
    ManifestError
        If the file cannot be read, or with every fault of its content.
    """
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise ManifestError(Fault(str(path), f"larger than {_SIZE_LIMIT} bytes"))
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(Fault(str(path), f"cannot be read: {error.strerror}")) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ManifestError(Fault(f"{path}{line}", "not YAML")) from error
    faults: list[Fault] = []
    top = _Reader(content, f"{path} ", faults)
    manifest = Manifest(
        name=top.matching("name", _NAME, "must be lower-case letters, digits and hyphens"),
        version=top.text("version", limit=64),
        manufacturer=top.text("manufacturer", limit=64),
        title=top.text("title", limit=64),
        label=top.text("label"),
        entry=top.matching("entry", _ENTRY, "must be module:Class or ./file.py:Class"),
        workitem_code=top.code("workitem_code"),
        requires=_requirements(top.inner("requires")),
        parameters=_parameters(top),
        model=_model(top, path.parent),
        folder=path.parent,
        workitem=_template(top),
        limits=_limits(top),
    )
    top.close()
    if faults:
        raise ManifestError(*faults)
    return manifest


def _requirements(part: _Reader) -> InputRequirements:
    found = InputRequirements(
        modalities=part.texts("modalities"),
        sop_class_uids=part.texts("sop_class_uids"),
        minimum_slices=part.whole("minimum_slices", 1, 1, 10_000),
    )
    for uid in found.sop_class_uids:
        if not is_uid(uid):
            part.fault("sop_class_uids", "must be well-formed UIDs")
    part.close()
    return found


def _template(top: _Reader) -> WorkitemTemplate:
    content = top.optional("workitem")
    if content is None:
        return WorkitemTemplate()
    part = top.reader("workitem", content)
    priority = part.text("priority", "")
    if priority not in ("", *Priority):
        part.fault("priority", f"must be {', '.join(Priority)}")
        priority = ""
    found = WorkitemTemplate(
        priority=Priority(priority) if priority else None,
        label=part.text("label", "", limit=64),
        worklist_label=part.text("worklist_label", "", limit=64),
        station_class=part.text("station_class", "", limit=16),
        expected_s=part.seconds("expected_s", _LONGEST_S),
        expires_s=part.seconds("expires_s", _LONGEST_S),
    )
    if found.expected_s and found.expires_s and found.expires_s < found.expected_s:
        part.fault("expires_s", "must not be before expected_s")
    part.close()
    return found


def _limits(top: _Reader) -> RunLimits:
    content = top.optional("limits")
    if content is None:
        return RunLimits()
    part = top.reader("limits", content)
    found = RunLimits(
        run_s=part.seconds("run_s", _LONGEST_S),
        silence_s=part.seconds("silence_s", _LONGEST_S),
        tries=part.whole("tries", 0, 1, 100) if part.has("tries") else None,
    )
    part.close()
    return found


def _parameters(top: _Reader) -> tuple[Parameter, ...]:
    content = top.optional("parameters") or {}
    if not isinstance(content, dict):
        top.fault("parameters", "must be a mapping")
        return ()
    found = []
    for name, entry in content.items():
        part = top.reader(f"parameters.{name}", entry)
        kind = part.text("kind")
        if kind not in list(ParameterKind):
            part.fault("kind", f"must be {', '.join(ParameterKind)}")
            kind = ParameterKind.TEXT
        parameter = Parameter(
            name=str(name),
            kind=ParameterKind(kind),
            default=part.text("default", ""),
            description=part.text("description"),
            minimum=part.number("minimum", float("-inf")),
            maximum=part.number("maximum", float("inf")),
        )
        if wrong := parameter.fault(parameter.default):
            part.fault("default", wrong)
        part.close()
        found.append(parameter)
    return tuple(found)


def _model(top: _Reader, folder: Path) -> NetworkModel | None:
    content = top.optional("model")
    if content is None:
        return None
    part = top.reader("model", content)
    spacing = part.optional("spacing_mm")
    if spacing is not None and (
        isinstance(spacing, bool) or not isinstance(spacing, int | float) or not 0.1 <= spacing <= 20
    ):
        part.fault("spacing_mm", "must be a number within 0.1 to 20, or absent for the spacing of the source")
        spacing = None
    scale = part.inner("scale")
    model = NetworkModel(
        # An absolute path stays what it is.
        path=folder / part.text("file"),
        sha256=part.matching("sha256", _SHA256, "must be 64 lower-case hex digits"),
        input_name=part.text("input"),
        output_name=part.text("output"),
        spacing_mm=None if spacing is None else float(spacing),
        neighbours=part.whole("neighbours", 0, 0, 8),
        size_multiple=part.whole("size_multiple", 1, 1, 64),
        outside_hu=part.number("outside_hu", -1000.0),
        scale=NetworkScale(
            offset_hu=scale.number("offset_hu"),
            factor=scale.number("factor", 1.0),
            minimum=scale.number("minimum", 0.0),
            maximum=scale.number("maximum", float("inf")),
        ),
    )
    scale.close()
    part.close()
    return model
