# SPDX-License-Identifier: Apache-2.0
"""Names of the files in a folder destination, from a template and the objects; pure, opens nothing.

Every value becomes one part of a name: what is no letter, digit, dot, dash or underscore is replaced, so that
no value of an object leads anywhere else.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from profiles.dicom_json import DicomJson, items, text
from profiles.uids import is_uid
from task_manager.ports import Shipment
from task_manager.study.model import Instance

INDEX_FOLDER = "complete"
"""Where the indexes are; no file of a layout goes there."""

DEFAULT_LAYOUT = "{study_instance_uid}/{series_instance_uid}/{sop_instance_uid}.dcm"

_MOST_PARTS = 12
_LONGEST_VALUE = 64
_LONGEST_PART = 200
_DIGEST = 20
_FIELD = re.compile(r"\{([a-z_]+)\}")
_LITERAL = re.compile(r"[A-Za-z0-9._-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}
)

Value = Callable[[Shipment, Instance], str]


def _header(keyword: str) -> Value:
    return lambda shipment, instance: text(instance.attributes, keyword)


def _patient(name: str, keyword: str) -> Value:
    """As known by now, else as in the object."""

    def value(shipment: Shipment, instance: Instance) -> str:
        known = getattr(shipment.patient, name) if shipment.patient is not None else ""
        return str(known or text(instance.attributes, keyword))

    return value


def _app(shipment: Shipment, instance: Instance) -> str:
    return workitem_code(shipment.workitem)


_FIELDS: Mapping[str, Value] = {
    "study_instance_uid": lambda shipment, instance: instance.study_instance_uid,
    "series_instance_uid": lambda shipment, instance: instance.series_instance_uid,
    "sop_instance_uid": lambda shipment, instance: instance.sop_instance_uid,
    "workitem_uid": lambda shipment, instance: shipment.workitem_uid,
    "workitem_code": _app,
    "modality": _header("Modality"),
    "study_date": _header("StudyDate"),
    "series_number": _header("SeriesNumber"),
    "instance_number": _header("InstanceNumber"),
    "accession_number": _header("AccessionNumber"),
    "patient_id": _patient("patient_id", "PatientID"),
    "patient_name": _patient("name", "PatientName"),
}
IDENTIFYING = frozenset({"patient_id", "patient_name"})
"""Fields that tell who the patient is."""


def workitem_code(workitem: DicomJson) -> str:
    """The code value of what was asked for; empty if there is none."""
    for code in items(workitem, "ScheduledWorkitemCodeSequence"):
        return text(code, "CodeValue")
    return ""


class Layout:
    """A template of names.

    Parameters
    ----------
    template
        Parts separated by ``/``, with ``{field}`` for values; its last part names each object
        (``{sop_instance_uid}``).
    identifying
        Whether it may use the fields that tell who the patient is.

    Raises
    ------
    ValueError
        If the template is not safe or does not tell objects apart.
    """

    def __init__(self, template: str = DEFAULT_LAYOUT, *, identifying: bool = False) -> None:
        self._parts = template.split("/")
        if len(self._parts) > _MOST_PARTS:
            raise ValueError(f"has more than {_MOST_PARTS} parts")
        for part in self._parts:
            _check_part(part, identifying)
        if self._parts[0].lower() == INDEX_FOLDER:
            raise ValueError(f"must not begin with {INDEX_FOLDER}, where the indexes are")
        if "{sop_instance_uid}" not in self._parts[-1]:
            raise ValueError("must have {sop_instance_uid} in its last part")

    def path_of(self, shipment: Shipment, instance: Instance) -> PurePosixPath:
        """Where an object goes, relative to the folder.

        Raises
        ------
        ValueError
            If its SOP Instance UID is none.
        """
        if not is_uid(instance.sop_instance_uid):
            raise ValueError("an object has no well-formed SOP Instance UID")
        return PurePosixPath(*(self._part(part, shipment, instance) for part in self._parts))

    @staticmethod
    def _part(part: str, shipment: Shipment, instance: Instance) -> str:
        def value(match: re.Match[str]) -> str:
            return safe_value(_FIELDS[match.group(1)](shipment, instance))

        name = _FIELD.sub(value, part)
        if name.partition(".")[0].upper() in _DEVICES or name.startswith("."):
            name = f"_{name}"
        if len(name) <= _LONGEST_PART:
            return name
        # what tells objects apart may be anywhere in it
        digest = hashlib.sha256(name.encode("ascii")).hexdigest()[:_DIGEST]
        return f"{digest}_{name[1 + _DIGEST - _LONGEST_PART :]}"


def index_path(shipment: Shipment) -> PurePosixPath:
    """Where the index of a result goes, relative to the folder.

    Raises
    ------
    ValueError
        If the workitem UID is none.
    """
    if not is_uid(shipment.workitem_uid):
        raise ValueError("the workitem has no well-formed UID")
    return PurePosixPath(INDEX_FOLDER, f"{shipment.workitem_uid}.json")


def safe_value(value: str) -> str:
    """`value` as a piece of a name: letters lose their accents, all else becomes ``_``; never empty."""
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode("ascii")
    return _UNSAFE.sub("_", plain).strip("._")[:_LONGEST_VALUE] or "none"


def _check_part(part: str, identifying: bool) -> None:
    for name in _FIELD.findall(part):
        if name not in _FIELDS:
            raise ValueError(f"has no field {{{name}}}; there are {', '.join(sorted(_FIELDS))}")
        if name in IDENTIFYING and not identifying:
            raise ValueError(f"{{{name}}} tells who the patient is; set identifying to use it")
    literal = _FIELD.sub("", part)
    if _LITERAL.fullmatch(literal) is None:
        raise ValueError("may have letters, digits, dots, dashes and underscores beside fields")
    if not part or not part.strip(".") or part.startswith(".") or part.endswith("."):
        raise ValueError("has a part that is empty or begins or ends with a dot")
