# SPDX-License-Identifier: Apache-2.0
"""Do these attributes satisfy the requirement table, in this service and this state?

All faults are found at once, each with its keyword path. Lenient in two documented ways: a type 2 attribute
that is missing at create is taken as empty and the create answers "with modifications"; one missing inside a
sequence that an update replaces stays missing, and the final-state rules decide. Nothing is read from a clock
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from profiles.dicom_json import DicomJson, first, tag_key, values
from profiles.uids import is_uid
from profiles.ups.attributes import ENUMERATED_VALUES, TOP_ROWS, by_tag
from profiles.ups.conditions import is_forbidden, is_required
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


def checked_correction(raw: DicomJson) -> DicomJson | Refused:
    """The attributes of patient and request as they are kept, complete as a create has them."""
    findings = Findings()
    changes = _read(raw, findings)
    for tag in changes.keys() - CORRECTABLE:
        findings.add(INVALID, path_of(tag), "tells neither the patient nor the request")
    for check in (check for checks in _correction_checks() for check in checks):
        if check.tag in changes:
            _check_presence(check, changes[check.tag], changes, Service.CREATE, {}, "", findings)
    return findings.refusal() or changes


def _correction_checks() -> tuple[tuple[_Check, ...], tuple[_Check, ...]]:
    always, others = _checks(TOP_ROWS, Service.CREATE)
    return (
        tuple(check for check in always if check.tag in CORRECTABLE),
        tuple(check for tag, check in others.items() if tag in CORRECTABLE),
    )


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


@dataclass(frozen=True, slots=True)
class _Check:
    """One row of the table as one service asks it.

    `plain` tells that a value cannot be wrong here; `needed`, that it is always needed; `condition`, when it
    is; `filled`, that the manager adds it empty.
    """

    tag: str
    row: Row
    requirement: str
    plain: bool
    needed: bool
    condition: Condition | None
    filled: bool

    @property
    def wanting(self) -> bool:
        """Whether its absence may matter."""
        return self.needed or self.condition is not None or self.filled

    def is_needed(self, item: DicomJson, container: DicomJson) -> bool:
        """Whether it is needed in `item`, which is an item of `container`."""
        return self.needed or (self.condition is not None and is_required(self.condition, item, container))


_CHECKS: dict[tuple[int, Service], tuple[tuple[Row, ...], tuple[_Check, ...], Mapping[str, _Check]]] = {}


def _checks(rows: tuple[Row, ...], service: Service) -> tuple[tuple[_Check, ...], Mapping[str, _Check]]:
    """The checks to be made always, and those only of what is there; made once for each part of the table."""
    known = _CHECKS.get((id(rows), service))
    if known is None:
        made = [_check_of(tag, row, service) for tag, row in by_tag(rows).items()]
        always = tuple(check for check in made if check.wanting)
        others = {check.tag: check for check in made if not check.wanting}
        known = _CHECKS[id(rows), service] = (rows, always, others)
    return known[1], known[2]


def _check_of(tag: str, row: Row, service: Service) -> _Check:
    creating = service is Service.CREATE
    requirement = row.create if creating else row.update
    conditional = row.when is not None and row.when is not Condition.VERSION_NEEDS_SCHEME
    return _Check(
        tag=tag,
        row=row,
        requirement=requirement,
        plain=requirement != "NA"
        and not row.items
        and row.max_items is None
        and tag not in ENUMERATED_VALUES
        and row.when is not Condition.VERSION_NEEDS_SCHEME
        and not (creating and row.empty_at_create),
        needed=requirement.startswith("1/"),
        condition=row.when if requirement.startswith("1C") and conditional else None,
        filled=creating and requirement.startswith("2/"),
    )


def _check_item(
    item: DicomJson,
    rows: tuple[Row, ...],
    service: Service,
    container: DicomJson,
    prefix: str,
    findings: Findings,
) -> None:
    """Check one item against `rows`; empty type 2 attributes missing at create are added to it."""
    always, others = _checks(rows, service)
    missing: list[str] = []
    for check in always:
        element = item.get(check.tag)
        if element is None:
            if check.is_needed(item, container):
                condition = f" {check.row.when.value}" if check.row.when is not None else ""
                path = prefix + check.row.keyword
                findings.add(RefusalCode.MISSING_ATTRIBUTE, path, f"is needed{condition}")
            elif check.filled and check.tag != _TRANSACTION_UID:
                missing.append(check.tag)
        elif not (check.plain and element.get("Value")):
            _check_presence(check, element, item, service, container, prefix, findings)
    for tag, element in item.items():
        found = others.get(tag)
        if found is not None and not (found.plain and element.get("Value")):
            _check_presence(found, element, item, service, container, prefix, findings)
    if missing:
        findings.filled = True
        in_order = dict(sorted({**item, **{tag: {"vr": entry(tag).vrs[0]} for tag in missing}}.items()))
        item.clear()
        item.update(in_order)


def _check_presence(
    check: _Check,
    element: DicomJson,
    item: DicomJson,
    service: Service,
    container: DicomJson,
    prefix: str,
    findings: Findings,
) -> None:
    row, creating = check.row, service is Service.CREATE
    if check.requirement == "NA":
        findings.add(INVALID, prefix + row.keyword, f"is not allowed in {service.value}")
    elif not _has_value(element):
        keeps_a_value = not creating and check.requirement == "3/1" and not prefix
        if keeps_a_value or check.is_needed(item, container):
            findings.add(RefusalCode.MISSING_VALUE, prefix + row.keyword, "needs a value")
    elif creating and row.empty_at_create:
        findings.add(INVALID, prefix + row.keyword, "must be empty at create")
    elif row.when is not None and is_forbidden(row.when, item):
        findings.add(INVALID, prefix + row.keyword, f"is allowed {row.when.value}")
    else:
        _check_items_of(row, item, service, prefix, findings)


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
            if findings.listed.is_over:
                return
            _check_item(nested, row.items, service, item, f"{prefix}{row.keyword}[{index}].", findings)


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
