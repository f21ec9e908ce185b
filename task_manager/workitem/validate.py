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
from functools import cache
from typing import NamedTuple

from profiles.dicom_json import DicomJson, first, tag_key, values
from profiles.uids import is_uid
from profiles.ups.attributes import ENUMERATED_VALUES, TOP_ROWS, by_tag
from profiles.ups.conditions import Test, condition_test, is_forbidden
from profiles.ups.dataset import FaultList, entry, path_of, read_dataset
from profiles.ups.states import UPS_SOP_CLASS_UIDS, WELL_KNOWN_UIDS, ProcedureStepState
from profiles.ups.table import Condition, Row
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
CORRECTABLE = frozenset(
    tag_key(keyword)
    for keyword in (
        *("PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
        *("OtherPatientIDsSequence", "PatientBirthDate", "PatientSex", "AdmissionID"),
        "ReferencedRequestSequence",
    )
)
"""Tags of what tells the patient and the request; only the manager corrects them."""
_OUTPUTS = tag_key("OutputInformationSequence")
_PERFORMERS = tag_key("ActualHumanPerformersSequence")
_PROGRESS = tag_key("ProcedureStepProgressInformationSequence")


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
    _check_item(attributes, _top(Service.CREATE), {}, "", findings)
    for tag in (_TRANSACTION_UID, _SOP_CLASS_UID):
        attributes.pop(tag, None)
    return findings.refusal() or (attributes, findings.filled)


def checked_update(raw: DicomJson) -> DicomJson | Refused:
    """The changes of an update as they are kept (CC.2.5-3, N-SET), without the Transaction UID."""
    findings = Findings()
    changes = _read(raw, findings)
    changes.pop(_TRANSACTION_UID, None)
    _check_commands(changes, findings)
    _check_item(changes, _top(Service.UPDATE), {}, "", findings)
    return findings.refusal() or changes


def checked_correction(raw: DicomJson) -> DicomJson | Refused:
    """The attributes of patient and request as they are kept, complete as a create has them."""
    findings = Findings()
    changes = _read(raw, findings)
    for tag in changes.keys() - CORRECTABLE:
        findings.add(INVALID, path_of(tag), "tells neither the patient nor the request")
    top = _top(Service.CREATE)
    for tag in (tag for tag in changes if tag in CORRECTABLE):
        _check_presence(top.checks[tag], changes, top, {}, "", findings)
    return findings.refusal() or changes


def checked_details(raw: DicomJson, keywords: tuple[str, ...]) -> tuple[DicomJson, bool] | Refused:
    """The named attributes of action information, and whether others were left out (table CC.2.2-1)."""
    allowed = {tag_key(keyword) for keyword in keywords}
    findings = Findings()
    read = _read({k: v for k, v in raw.items() if str(k).upper() in allowed}, findings)
    progress = _top(Service.UPDATE).checks[_PROGRESS].items
    for tag, check in progress.checks.items() if progress else ():
        if tag in read:
            _check_values(check, read, "", findings)
    details = {tag: element for tag, element in read.items() if _has_value(element)}
    return findings.refusal() or (details, len(raw) > len(read))


def _check_commands(attributes: DicomJson, findings: Findings) -> None:
    for tag in attributes:
        if tag.startswith("0000"):
            findings.add(INVALID, path_of(tag), "belongs to the command set, not here")


@dataclass(frozen=True, slots=True)
class _Check:
    """One row of the table as one service asks it.

    `plain` tells that a value cannot be wrong here; `needed`, that it is always needed; `condition`, when it
    is; `filled`, that the manager adds it empty; `allowed`, its enumerated values; `items`, how the items of
    a sequence are checked.
    """

    tag: str
    row: Row
    requirement: str
    plain: bool
    needed: bool
    condition: Test | None
    filled: bool
    allowed: frozenset[str] | None
    items: _Part | None

    def is_needed(self, item: DicomJson, container: DicomJson) -> bool:
        """Whether it is needed in `item`, which is an item of `container`."""
        return self.needed or (self.condition is not None and self.condition(item, container))


class _Plan(NamedTuple):
    """What to look at in an item that has certain tags.

    `plain` may have any value, `conditions` may make what is absent needed, `more` has to be looked at
    further. Of these are the `absent` that may be needed, the `filled` that are added empty.
    """

    plain: tuple[str, ...]
    conditions: tuple[Test, ...]
    more: bool
    present: tuple[_Check, ...]
    absent: tuple[_Check, ...]
    filled: tuple[str, ...]


class _Part:
    """Rows that belong together, as one service asks them: of the workitem, or of a sequence's items."""

    def __init__(self, rows: tuple[Row, ...], service: Service) -> None:
        self.creating = service is Service.CREATE
        self.service = service
        self.checks = {tag: _check_of(tag, row, service) for tag, row in by_tag(rows).items()}
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def plan(self, item: DicomJson) -> _Plan:
        """The plan for items with the tags of this one; kept while there is room, as most items are alike."""
        tags = tuple(item)
        known = self._plans.get(tags)
        if known is None:
            present = [self.checks[tag] for tag in tags if tag in self.checks]
            wanting = [check for tag, check in self.checks.items() if tag not in item]
            absent = tuple(check for check in wanting if check.needed or check.condition is not None)
            filled = tuple(check.tag for check in wanting if check.filled and check.tag != _TRANSACTION_UID)
            known = _Plan(
                plain=tuple(check.tag for check in present if check.plain),
                conditions=tuple(check.condition for check in absent if check.condition is not None),
                more=bool(filled)
                or any(check.needed for check in absent)
                or not all(check.plain for check in present),
                present=tuple(present),
                absent=absent,
                filled=filled,
            )
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[tags] = known
        return known


_MOST_PLANS = 256
"""Of a part: peers have their habits, and who tries all combinations must not fill the memory."""


def _check_of(tag: str, row: Row, service: Service) -> _Check:
    creating = service is Service.CREATE
    asked = row.create if creating else row.update
    conditional = asked.startswith("1C") and row.when is not Condition.VERSION_NEEDS_SCHEME
    return _Check(
        tag=tag,
        row=row,
        requirement=asked,
        plain=asked != "NA"
        and not row.items
        and row.max_items is None
        and tag not in ENUMERATED_VALUES
        and row.when is not Condition.VERSION_NEEDS_SCHEME
        and not (creating and row.empty_at_create),
        needed=asked.startswith("1/"),
        condition=condition_test(row.when) if conditional and row.when is not None else None,
        filled=creating and asked.startswith("2/"),
        allowed=ENUMERATED_VALUES.get(tag),
        items=_Part(row.items, service) if row.items else None,
    )


@cache
def _top(service: Service) -> _Part:
    return _Part(TOP_ROWS, service)


def _is_fine(item: DicomJson, part: _Part, container: DicomJson) -> bool:
    """Whether nothing more has to be looked at in an item: all that is there is plain, and that is enough."""
    plan = part.plan(item)
    if plan.more:
        return False
    for tag in plan.plain:  # loops, as this is done for each of many items
        if not item[tag].get("Value"):
            return False
    return not plan.conditions or not any(is_met(item, container) for is_met in plan.conditions)


def _check_item(item: DicomJson, part: _Part, container: DicomJson, prefix: str, findings: Findings) -> None:
    """Check one item; empty type 2 attributes missing at create are added to it."""
    plan = part.plan(item)
    for check in plan.absent:
        if check.is_needed(item, container):
            condition = f" {check.row.when.value}" if check.row.when is not None else ""
            findings.add(RefusalCode.MISSING_ATTRIBUTE, prefix + check.row.keyword, f"is needed{condition}")
    for check in plan.present:
        if not (check.plain and item[check.tag].get("Value")):
            _check_presence(check, item, part, container, prefix, findings)
    if plan.filled:
        findings.filled = True
        in_order = dict(sorted({**item, **{tag: {"vr": entry(tag).vrs[0]} for tag in plan.filled}}.items()))
        item.clear()
        item.update(in_order)


def _check_presence(
    check: _Check, item: DicomJson, part: _Part, container: DicomJson, prefix: str, findings: Findings
) -> None:
    row = check.row
    if check.requirement == "NA":
        findings.add(INVALID, prefix + row.keyword, f"is not allowed in {part.service.value}")
    elif not _has_value(item[check.tag]):
        keeps_a_value = not part.creating and check.requirement == "3/1" and not prefix
        if keeps_a_value or check.is_needed(item, container):
            findings.add(RefusalCode.MISSING_VALUE, prefix + row.keyword, "needs a value")
    elif part.creating and row.empty_at_create:
        findings.add(INVALID, prefix + row.keyword, "must be empty at create")
    elif row.when is not None and is_forbidden(row.when, item):
        findings.add(INVALID, prefix + row.keyword, f"is allowed {row.when.value}")
    else:
        _check_values(check, item, prefix, findings)


def _check_values(check: _Check, item: DicomJson, prefix: str, findings: Findings) -> None:
    keyword, most = check.row.keyword, check.row.max_items
    found = item[check.tag].get("Value") or []
    if most is not None and len(found) > most:
        findings.add(INVALID, prefix + keyword, f"may have {most}, has {len(found)}")
    if check.allowed is not None and any(value not in check.allowed for value in found):
        findings.add(INVALID, prefix + keyword, f"must be one of {', '.join(sorted(check.allowed))}")
    if check.items is None:
        return
    for index, nested in enumerate(found):
        if findings.listed.is_over:
            return
        if not _is_fine(nested, check.items, item):
            _check_item(nested, check.items, item, f"{prefix}{keyword}[{index}].", findings)


def final_state_faults(attributes: DicomJson, state: ProcedureStepState) -> Refused | None:
    """What keeps a workitem from becoming COMPLETED or CANCELED (CC.2.5.1.1, final-state column of CC.2.5-3).

    Output Information Sequence must be there but may have no items. Whether human performers are known cannot
    be decided; an item of Actual Human Performers Sequence must name one.
    """
    findings = Findings()
    _check_final(attributes, _final_checks(state), state, "", findings)
    return findings.refusal()


@dataclass(frozen=True, slots=True)
class _FinalCheck:
    """One row of the final-state column that matters: it decides, or something in its items does."""

    tag: str
    row: Row
    decides: bool
    items: tuple[_FinalCheck, ...]


@cache
def _final_checks(state: ProcedureStepState) -> tuple[_FinalCheck, ...]:
    deciding = {"R", "P"} if state is ProcedureStepState.COMPLETED else {"R", "X"}

    def made(rows: tuple[Row, ...]) -> tuple[_FinalCheck, ...]:
        checks = [
            _FinalCheck(tag, row, row.final in deciding, made(row.items)) for tag, row in by_tag(rows).items()
        ]
        return tuple(check for check in checks if check.decides or check.items or check.tag == _PERFORMERS)

    return made(TOP_ROWS)


def _check_final(
    item: DicomJson,
    checks: tuple[_FinalCheck, ...],
    state: ProcedureStepState,
    prefix: str,
    findings: Findings,
) -> None:
    for check in checks:
        element, path = item.get(check.tag), prefix + check.row.keyword
        satisfied = element is not None if check.tag == _OUTPUTS else _has_value(element)
        if check.decides and not satisfied:
            findings.add(RefusalCode.FINAL_STATE_NOT_MET, path, f"needs a value to become {state.value}")
        if not check.items and check.tag != _PERFORMERS:
            continue
        for index, nested in enumerate(values(item, check.row.keyword)):
            if check.tag == _PERFORMERS and not any(_has_value(part) for part in nested.values()):
                findings.add(RefusalCode.FINAL_STATE_NOT_MET, f"{path}[{index}]", "names no human performer")
            _check_final(nested, check.items, state, f"{path}[{index}].", findings)
