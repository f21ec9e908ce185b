# SPDX-License-Identifier: Apache-2.0
"""Do these attributes satisfy the requirement table, in this service and this state?

All faults are found at once, each with its keyword path. Lenient in two documented ways: a type 2 attribute
that is missing at create is taken as empty and the create answers "with modifications"; one missing inside a
sequence that an update replaces stays missing, and the final-state rules decide. Nothing is read from a clock
here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from profiles.dicom_json import DicomJson, first, tag_key, values
from profiles.uids import is_uid
from profiles.ups.attributes import ENUMERATED_VALUES, TOP_ROWS, by_tag
from profiles.ups.conditions import is_forbidden, is_required
from profiles.ups.dataset import FaultList, entry, path_of, read_dataset
from profiles.ups.states import UPS_SOP_CLASS_UIDS, WELL_KNOWN_UIDS, ProcedureStepState
from profiles.ups.table import Row
from task_manager.outcome import RefusalCode, Refused

INVALID = RefusalCode.INVALID_ATTRIBUTES
_SEVERITY = (
    RefusalCode.NOT_SCHEDULED,
    INVALID,
    RefusalCode.MISSING_ATTRIBUTE,
    RefusalCode.MISSING_VALUE,
    RefusalCode.FINAL_STATE_NOT_MET,
)
_TRANSACTION_UID = tag_key("TransactionUID")
_SOP_CLASS_UID = tag_key("SOPClassUID")
_SOP_INSTANCE_UID = tag_key("SOPInstanceUID")
_OUTPUTS = tag_key("OutputInformationSequence")
_PERFORMERS = tag_key("ActualHumanPerformersSequence")


class Service(StrEnum):
    """The column of the table that applies."""

    CREATE = "create"
    UPDATE = "update"


@dataclass(slots=True)
class Findings:
    """Faults with the refusal each alone would earn; listed up to a bound, as hostile input has many."""

    listed: FaultList = field(default_factory=FaultList)
    codes: set[RefusalCode] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    filled: bool = False

    def add(self, code: RefusalCode, path: str, message: str) -> None:
        """Add a fault; a second one at the same path would only repeat the first."""
        if path in self.paths:
            return
        self.paths.add(path)
        self.codes.add(code)
        self.listed.add(path, message)

    def refusal(self) -> Refused | None:
        """The refusal with the gravest code and all faults; None without faults."""
        if not self.codes:
            return None
        return Refused(next(code for code in _SEVERITY if code in self.codes), self.listed.listed())


def _has_value(element: DicomJson | None) -> bool:
    return element is not None and bool(element.get("Value") or element.get("InlineBinary"))


def _read(raw: DicomJson, findings: Findings) -> DicomJson:
    read = read_dataset(raw)
    for fault in read.faults:
        findings.add(INVALID, fault.path, fault.message)
    return read.attributes


def checked_create(uid: str, raw: DicomJson) -> tuple[DicomJson, bool] | Refused:
    """The attributes of a create as they are kept, and whether empty ones had to be added (CC.2.5-3).

    Transaction UID, SOP Class UID and SOP Instance UID are left out: the manager sets what is to be kept.
    """
    findings = Findings()
    attributes = _read(raw, findings)
    if not is_uid(uid) or uid in WELL_KNOWN_UIDS:
        findings.add(
            INVALID,
            "SOPInstanceUID",
            "needs a well-formed UID of its own, not a well-known one",
        )
    named = attributes.pop(_SOP_INSTANCE_UID, None)
    if named is not None and named.get("Value", [uid]) != [uid]:
        findings.add(INVALID, "SOPInstanceUID", "differs from the UID of the request")
    if (
        _has_value(attributes.get(_SOP_CLASS_UID))
        and first(attributes, "SOPClassUID") not in UPS_SOP_CLASS_UIDS
    ):
        findings.add(INVALID, "SOPClassUID", "is not that of a Unified Procedure Step")
    if first(attributes, "ProcedureStepState") not in (None, ProcedureStepState.SCHEDULED.value):
        findings.add(RefusalCode.NOT_SCHEDULED, "ProcedureStepState", "must be SCHEDULED at create")
    _check_commands(attributes, findings)
    _check_item(attributes, TOP_ROWS, Service.CREATE, {}, "", findings)
    for tag in (_TRANSACTION_UID, _SOP_CLASS_UID):
        attributes.pop(tag, None)
    return findings.refusal() or (attributes, findings.filled)


def checked_update(raw: DicomJson) -> DicomJson | Refused:
    """The changes of an update as they are kept (CC.2.5-3, N-SET), without the Transaction UID."""
    findings = Findings()
    changes = _read(raw, findings)
    changes.pop(_TRANSACTION_UID, None)
    _check_commands(changes, findings)
    _check_item(changes, TOP_ROWS, Service.UPDATE, {}, "", findings)
    return findings.refusal() or changes


def checked_details(raw: DicomJson, keywords: tuple[str, ...]) -> tuple[DicomJson, bool] | Refused:
    """The named attributes of action information, and whether others were left out (table CC.2.2-1)."""
    allowed = {tag_key(keyword) for keyword in keywords}
    findings = Findings()
    read = _read({k: v for k, v in raw.items() if str(k).upper() in allowed}, findings)
    for row in _progress_rows():
        if tag_key(row.keyword) in read:
            _check_items_of(row, read, Service.UPDATE, "", findings)
    details = {tag: element for tag, element in read.items() if _has_value(element)}
    return findings.refusal() or (details, len(raw) > len(read))


def _progress_rows() -> tuple[Row, ...]:
    return by_tag(TOP_ROWS)[tag_key("ProcedureStepProgressInformationSequence")].items


def _check_commands(attributes: DicomJson, findings: Findings) -> None:
    for tag in attributes:
        if tag.startswith("0000"):
            findings.add(INVALID, path_of(tag), "belongs to the command set, not here")


def _check_item(
    item: DicomJson,
    rows: tuple[Row, ...],
    service: Service,
    container: DicomJson,
    prefix: str,
    findings: Findings,
) -> None:
    """Check one item against `rows`; empty type 2 attributes missing at create are added to it."""
    creating, missing = service is Service.CREATE, False
    for tag, row in _rows_to_check(rows, item, creating):
        element = item.get(tag)
        requirement = row.create if creating else row.update
        needed = requirement.startswith("1/") or (
            requirement.startswith("1C") and row.when is not None and is_required(row.when, item, container)
        )
        if element is None:
            if needed:
                condition = f" {row.when.value}" if row.when is not None else ""
                findings.add(RefusalCode.MISSING_ATTRIBUTE, prefix + row.keyword, f"is needed{condition}")
            elif creating and requirement.startswith("2/") and tag != _TRANSACTION_UID:
                item[tag] = {"vr": entry(tag).vrs[0]}
                missing = True
        elif requirement == "NA":
            findings.add(INVALID, prefix + row.keyword, f"is not allowed in {service.value}")
        elif not _has_value(element):
            keeps_a_value = not creating and requirement == "3/1" and not prefix
            if needed or keeps_a_value:
                findings.add(RefusalCode.MISSING_VALUE, prefix + row.keyword, "needs a value")
        elif creating and row.empty_at_create:
            findings.add(INVALID, prefix + row.keyword, "must be empty at create")
        elif row.when is not None and is_forbidden(row.when, item):
            findings.add(INVALID, prefix + row.keyword, f"is allowed {row.when.value}")
        else:
            _check_items_of(row, item, service, prefix, findings)
    if missing:
        findings.filled = True
        in_order = dict(sorted(item.items()))
        item.clear()
        item.update(in_order)


_INDEXED: dict[tuple[int, bool], tuple[tuple[Row, ...], tuple[tuple[str, Row], ...], dict[str, Row]]] = {}


def _rows_to_check(rows: tuple[Row, ...], item: DicomJson, creating: bool) -> list[tuple[str, Row]]:
    """The rows that may find a fault in `item`: those that want a value, and those of what is there."""
    known = _INDEXED.get((id(rows), creating))
    if known is None:
        wanting, others = [], {}
        for tag, row in by_tag(rows).items():
            if (row.create if creating else row.update)[0] in "12":
                wanting.append((tag, row))
            else:
                others[tag] = row
        known = _INDEXED[id(rows), creating] = (rows, tuple(wanting), others)
    _, always, others = known
    return [*always, *((tag, others[tag]) for tag in item if tag in others)]


def _check_items_of(row: Row, item: DicomJson, service: Service, prefix: str, findings: Findings) -> None:
    found = values(item, row.keyword)
    if row.max_items is not None and len(found) > row.max_items:
        message = f"may have {row.max_items}, has {len(found)}"
        findings.add(INVALID, prefix + row.keyword, message)
    allowed = ENUMERATED_VALUES.get(tag_key(row.keyword))
    if allowed is not None and any(value not in allowed for value in found):
        findings.add(INVALID, prefix + row.keyword, f"must be one of {', '.join(sorted(allowed))}")
    if row.items:
        for index, nested in enumerate(found):
            _check_item(nested, row.items, service, item, f"{prefix}{row.keyword}[{index}].", findings)


def final_state_faults(attributes: DicomJson, state: ProcedureStepState) -> Refused | None:
    """What keeps a workitem from becoming COMPLETED or CANCELED (CC.2.5.1.1, final-state column of CC.2.5-3).

    Output Information Sequence must be there but may have no items. Whether human performers are known cannot
    be decided; an item of Actual Human Performers Sequence must name one.
    """
    findings = Findings()
    _check_final(attributes, TOP_ROWS, state, "", findings)
    return findings.refusal()


def _check_final(
    item: DicomJson, rows: tuple[Row, ...], state: ProcedureStepState, prefix: str, findings: Findings
) -> None:
    deciding = {"R", "P"} if state is ProcedureStepState.COMPLETED else {"R", "X"}
    for tag, row in by_tag(rows).items():
        element, path = item.get(tag), prefix + row.keyword
        satisfied = element is not None if tag == _OUTPUTS else _has_value(element)
        if row.final in deciding and not satisfied:
            findings.add(RefusalCode.FINAL_STATE_NOT_MET, path, f"needs a value to become {state.value}")
        for index, nested in enumerate(values(item, row.keyword) if row.items else ()):
            if tag == _PERFORMERS and not any(_has_value(part) for part in nested.values()):
                findings.add(RefusalCode.FINAL_STATE_NOT_MET, f"{path}[{index}]", "names no human performer")
            _check_final(nested, row.items, state, f"{path}[{index}].", findings)
