# SPDX-License-Identifier: Apache-2.0
"""Conditions from YAML nodes: a mapping of attributes to what is asked of them, and how they are combined."""

from __future__ import annotations

from collections.abc import Mapping

from task_manager.rules.attributes import UnknownAttributeError, parse_reference
from task_manager.rules.comparison import comparable
from task_manager.rules.model import (
    All,
    AnyOf,
    Condition,
    Equals,
    Exists,
    FirstKnown,
    HasCode,
    In,
    Learned,
    Like,
    Not,
    Range,
    Reference,
    Regex,
)
from task_manager.rules.nodes import Entry, FaultList
from task_manager.rules.pattern import PatternError, compiled

_BOUNDS = ("gt", "ge", "lt", "le")
OPERATORS: Mapping[str, str] = {
    "equals": "equal; numbers compare as numbers, text without regard to letter case",
    "in": "equal to one of a list",
    "like": "like it as a whole: `*` any text, `?` one character, any letter case",
    "regex": "holds a match (RE2, linear time); letter case counts unless it begins with `(?i)`",
    "gt": "greater",
    "ge": "greater or equal",
    "lt": "less",
    "le": "less or equal",
    "code": "of a code sequence: this code value, or `{value: ..., scheme: ...}`",
    "exists": "`true`: there is a value; `false`: there is none; never unknown",
    "not": "the opposite of any of these; unknown stays unknown",
}
"""What can be asked of an attribute, and when any of its values satisfies it."""
_KINDS = {"DA": "a date", "TM": "a time", "DT": "a date and time", "AS": "an age or a number of years"}
_NOTHING = All(())
_LONGEST_LIKE = 256
COMBINATIONS: Mapping[str, str] = {
    "all": "list; true if all are, false if one is false, else unknown; a list alone means the same",
    "any": "list; true if one is, false if all are false, else unknown",
    "first_known": "list; the first that is not unknown decides",
    "not": "one condition; the opposite, unknown stays unknown",
}
"""How conditions are combined."""


class ConditionReader:
    """Reads conditions; after a fault it goes on with a condition that nobody will use.

    `learned` is the classifier of the file that is read.
    """

    def __init__(self, faults: FaultList) -> None:
        self.faults = faults
        self.learned: Learned | None = None

    def condition(self, entry: Entry) -> Condition:
        """The condition of a mapping (all of its keys) or of a list (all of its entries)."""
        if entry.is_sequence:
            return self._group(entry, All)
        if entry.is_mapping and any(key == "tag" for key in self._keys(entry)):
            return self._private(entry)
        parts: list[Condition] = []
        for name, value in entry.mapping(self.faults).items():
            if name == "all":
                parts.append(self._group(value, All))
            elif name == "any":
                parts.append(self._group(value, AnyOf))
            elif name == "first_known":
                parts.append(self._group(value, FirstKnown))
            elif name == "not":
                parts.append(Not(self.condition(value)))
            else:
                reference = self._reference(value, name)
                if reference is not None:
                    parts.append(self._tests(reference, value))
        if not parts and entry.is_mapping and not entry.node.value:
            self.faults.add(entry, "the condition is empty")
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def named_reference(self, entry: Entry, keys: Mapping[str, Entry], name: str) -> Reference | None:
        """The attribute of a mapping that names it under `name`, or under ``tag`` with its ``creator``."""
        if (name in keys) == ("tag" in keys):
            self.faults.add(entry, f"needs either {name} or tag")
            return None
        if name in keys:
            return self._reference(keys[name], keys[name].text(self.faults))
        creator = keys["creator"].text(self.faults) if "creator" in keys else ""
        return self._reference(keys["tag"], keys["tag"].text(self.faults), creator)

    @staticmethod
    def _keys(entry: Entry) -> list[str]:
        return [str(key.value) for key, _ in entry.node.value]

    def _group(self, entry: Entry, kind: type[All | AnyOf | FirstKnown]) -> Condition:
        entries = entry.sequence(self.faults)
        if entry.is_sequence and not entries:
            self.faults.add(entry, "the list of conditions is empty")
        return kind(tuple(self.condition(one) for one in entries))

    def _private(self, entry: Entry) -> Condition:
        keys = entry.mapping(self.faults, ("tag", "creator", *OPERATORS))
        reference = self.named_reference(entry, keys, "attribute")
        operators = {name: value for name, value in keys.items() if name in OPERATORS}
        if not operators:
            self.faults.add(entry, f"asks nothing of the attribute; one of {', '.join(OPERATORS)}")
        return self._operators(reference, operators) if reference is not None else _NOTHING

    def _reference(self, entry: Entry, text: str, creator: str = "") -> Reference | None:
        try:
            return parse_reference(text, creator, self.learned)
        except UnknownAttributeError as error:
            self.faults.add(entry, str(error))
            return None

    def _tests(self, reference: Reference, entry: Entry) -> Condition:
        """What is asked of one attribute: a value, a list of values, or a mapping of operators."""
        if entry.is_sequence:
            return self._in(reference, entry)
        if not entry.is_mapping:
            return self._equals(reference, entry)
        keys = entry.mapping(self.faults, tuple(OPERATORS))
        if not keys and not entry.node.value:
            self.faults.add(entry, f"asks nothing; one of {', '.join(OPERATORS)}")
        return self._operators(reference, keys)

    def _operators(self, reference: Reference, keys: Mapping[str, Entry]) -> Condition:
        parts: list[Condition] = []
        bounds = {name: keys[name] for name in _BOUNDS if name in keys}
        if bounds:
            parts.append(self._range(reference, bounds))
        for name, value in keys.items():
            match name:
                case "equals":
                    parts.append(self._equals(reference, value))
                case "in":
                    parts.append(self._in(reference, value))
                case "like":
                    parts.append(self._like(reference, value))
                case "regex":
                    parts.append(self._regex(reference, value))
                case "code":
                    parts.append(self._code(reference, value))
                case "exists":
                    parts.append(Exists(reference=reference, expected=self._truth(value)))
                case "not":
                    parts.append(Not(self._tests(reference, value)))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _equals(self, reference: Reference, entry: Entry) -> Condition:
        return Equals(reference=reference, value=self._needed(entry))

    def _in(self, reference: Reference, entry: Entry) -> Condition:
        entries = entry.sequence(self.faults)
        if entry.is_sequence and not entries:
            self.faults.add(entry, "the list of values is empty")
        return In(reference=reference, values=tuple(self._needed(one) for one in entries))

    def _like(self, reference: Reference, entry: Entry) -> Condition:
        pattern = self._needed(entry)
        if len(pattern) > _LONGEST_LIKE:
            self.faults.add(entry, f"the pattern is longer than {_LONGEST_LIKE} characters")
        return Like(reference=reference, pattern=pattern)

    def _regex(self, reference: Reference, entry: Entry) -> Condition:
        pattern = self._needed(entry)
        try:
            compiled(pattern)
        except PatternError as error:
            self.faults.add(entry, f"no usable regular expression: {error}")
        return Regex(reference=reference, pattern=pattern)

    def _code(self, reference: Reference, entry: Entry) -> Condition:
        if reference.vr not in ("SQ", ""):
            self.faults.add(entry, f"{reference.text} is no code sequence (it is {reference.vr})")
        if not entry.is_mapping:
            return HasCode(reference=reference, value=self._needed(entry))
        keys = entry.mapping(self.faults, ("value", "scheme"), required=("value",))
        return HasCode(
            reference=reference,
            value=self._needed(keys["value"]) if "value" in keys else "",
            scheme=self._needed(keys["scheme"]) if "scheme" in keys else "",
        )

    def _range(self, reference: Reference, bounds: Mapping[str, Entry]) -> Condition:
        texts = {name: value.text(self.faults) for name, value in bounds.items()}
        for name, value in bounds.items():
            if comparable(reference.vr, texts[name]) is None:
                self.faults.add(value, f"must be {_KINDS.get(reference.vr, 'a number')}")
        if {"gt", "ge"} <= bounds.keys() or {"lt", "le"} <= bounds.keys():
            self.faults.add(next(iter(bounds.values())), "give one lower bound and one upper bound at most")
        return Range(reference=reference, **texts)

    def _needed(self, entry: Entry) -> str:
        text = entry.text(self.faults)
        if not text and not entry.is_mapping and not entry.is_sequence:
            self.faults.add(entry, "the value is empty; for a missing value ask `exists: false`")
        return text

    def _truth(self, entry: Entry) -> bool:
        text = entry.text(self.faults).lower()
        if text not in ("true", "false"):
            self.faults.add(entry, "must be true or false")
        return text == "true"
