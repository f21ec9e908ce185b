# SPDX-License-Identifier: Apache-2.0
"""The identifiers of C-FIND over workitems: keys in, answers out (PS3.4 CC.2.8, C.2.2.2, K.2.2).

Matching itself is the worklist's; this module says what is asked for, whether it can be matched, and which
attributes an answer has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profiles.dicom_json import DicomJson, tag_key, text
from profiles.faults import Fault
from profiles.ups.attributes import TOP_ROWS, by_tag
from profiles.ups.dataset import entry
from profiles.ups.matching import is_universal, key_faults, key_vr
from profiles.ups.offsets import is_offset, with_offset
from profiles.ups.states import UPS_SOP_CLASS_UIDS
from profiles.ups.table import Row
from task_manager.outcome import RefusalCode, Refused

PENDING = 0xFF00
PENDING_WITH_UNSUPPORTED_KEYS = 0xFF01
SUCCESS = 0x0000
CANCELED = 0xFE00

_TRANSACTION_UID = tag_key("TransactionUID")
_SOP_CLASS_UID = tag_key("SOPClassUID")
_NO_KEYS = frozenset(
    {tag_key("SpecificCharacterSet"), tag_key("TimezoneOffsetFromUTC"), tag_key("QueryRetrieveLevel")}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A search as asked.

    Attributes
    ----------
    keys
        What is to be matched.
    asked
        The identifier: what each answer holds.
    status
        Of each pending response: FF01 if a key with a value could not be matched, else FF00.
    is_empty
        There is no matching key at all; then nothing matches (CC.2.8.3.1).
    """

    keys: DicomJson
    asked: DicomJson
    status: int
    is_empty: bool

    @property
    def tags(self) -> frozenset[str]:
        """Top-level tags of the answers."""
        return frozenset(self.asked)


def read_find(identifier: DicomJson) -> Find | Refused:
    """The search that an identifier asks for, or every key that makes it none.

    A key of zero length is universal: it asks for the attribute. Times without offset are those of Timezone
    Offset From UTC, if it is given. Two habits of real clients do no harm: a Query/Retrieve Level, which
    worklists do not have, and the UID of another UPS class than Push, which every workitem is of (CC.3.1).
    """
    offset = text(identifier, "TimezoneOffsetFromUTC")
    if offset and not is_offset(offset):
        fault = Fault("TimezoneOffsetFromUTC", "needs an offset such as +0100")
        return Refused(RefusalCode.UNSUPPORTED_MATCHING, (fault,))
    asked = {key: one for key, one in identifier.items() if key not in _NO_KEYS}
    classes = asked.get(_SOP_CLASS_UID, {}).get("Value") or ()
    if classes and UPS_SOP_CLASS_UIDS.issuperset(classes):
        asked[_SOP_CLASS_UID] = {"vr": "UI"}
    unsupported: list[str] = []
    keys = _matchable(asked, TOP_ROWS, offset, unsupported)
    faults = key_faults(keys)
    if faults:
        return Refused(RefusalCode.UNSUPPORTED_MATCHING, faults)
    asked.pop(_TRANSACTION_UID, None)
    return Find(
        keys=keys,
        asked=asked,
        status=PENDING_WITH_UNSUPPORTED_KEYS if unsupported else PENDING,
        is_empty=not keys,
    )


def _matchable(item: DicomJson, rows: tuple[Row, ...], offset: str, unsupported: list[str]) -> DicomJson:
    """The keys of `item` that can be matched; those with a value that cannot are added to `unsupported`."""
    index = by_tag(rows)
    keys: DicomJson = {}
    for key, element in item.items():
        row, values = index.get(key), element.get("Value") or []
        vr = key_vr(key, element)
        universal = is_universal(vr, values) and "InlineBinary" not in element
        if row is not None and row.match == "-" and not (key == _TRANSACTION_UID and not universal):
            if not universal:
                unsupported.append(key)
        elif vr == "SQ" and len(values) == 1 and isinstance(values[0], dict):
            nested = row.items if row is not None else ()
            inner = _matchable(values[0], nested, offset, unsupported)
            keys[key] = {"vr": "SQ", "Value": [inner]} if inner else {"vr": "SQ"}
        elif vr == "DT" and offset:
            keys[key] = {"vr": "DT", "Value": [with_offset(str(one or ""), offset) for one in values]}
        else:
            keys[key] = element
    return keys


def answer(asked: DicomJson, attributes: DicomJson) -> DicomJson:
    """The attributes of a workitem that were asked for, empty where it has none.

    A sequence asked for with keys inside its item has those in every item; without, it is whole.
    """
    result: DicomJson = {}
    for key, element in sorted(asked.items()):
        if key in _NO_KEYS or key == _TRANSACTION_UID:
            continue
        stored = attributes.get(key)
        if stored is None:
            vrs = entry(key).vrs
            result[key] = {"vr": vrs[0] if vrs else element["vr"]}
            continue
        inside: Any = (element.get("Value") or [None])[0] if stored["vr"] == "SQ" else None
        if isinstance(inside, dict) and inside and stored.get("Value"):
            result[key] = {"vr": "SQ", "Value": [answer(inside, item) for item in stored["Value"]]}
        else:
            result[key] = stored
    return result
