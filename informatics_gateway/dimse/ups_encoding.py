# SPDX-License-Identifier: Apache-2.0
"""The project's DICOM JSON as data sets of the library, to be sent; reading is in ``ups_dataset.py``."""

from __future__ import annotations

import base64
from typing import Any

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from informatics_gateway.dimse.ups_dataset import CHARACTER_SET, NAME_GROUPS, UTF_8
from profiles.dicom_json import DicomJson

_LONGEST_DS = 16


def pydicom_data_set(attributes: DicomJson) -> Dataset:
    """`attributes` to be sent: with Specific Character Set ISO_IR 192 if any text needs it or it was told."""
    told = bool(attributes.get(CHARACTER_SET, {}).get("Value"))
    data_set = _written({key: one for key, one in attributes.items() if key != CHARACTER_SET})
    if told or _needs_unicode(attributes):
        data_set.SpecificCharacterSet = UTF_8
    return data_set


def _needs_unicode(value: Any) -> bool:
    if isinstance(value, str):
        return not value.isascii()
    if isinstance(value, dict):
        return any(_needs_unicode(one) for one in value.values())
    return isinstance(value, list) and any(_needs_unicode(one) for one in value)


def _written(attributes: DicomJson) -> Dataset:
    data_set = Dataset()
    for key, element in sorted(attributes.items()):
        vr, values = element["vr"], element.get("Value") or []
        content: Any
        if vr == "SQ":
            content = [_written({k: e for k, e in one.items() if k != CHARACTER_SET}) for one in values]
        elif "InlineBinary" in element:
            content = base64.b64decode(element["InlineBinary"])
        else:
            texts = [_written_value(vr, one) for one in values]
            content = None if not texts else texts[0] if len(texts) == 1 else texts
        data_set.add(DataElement(int(key, 16), vr, content, validation_mode=config.IGNORE))
    return data_set


def _written_value(vr: str, value: Any) -> Any:
    if value is None:
        return ""
    if vr == "PN" and isinstance(value, dict):
        return "=".join(str(value.get(group) or "") for group in NAME_GROUPS).rstrip("=")
    if vr == "AT":
        return int(value, 16)
    if vr == "DS" and isinstance(value, float) and len(str(value)) > _LONGEST_DS:
        return format_number_as_ds(value)
    if vr in ("DS", "IS"):
        return str(value)
    return value
