# SPDX-License-Identifier: Apache-2.0
"""Rules from YAML text: all faults at once, each with file, line and key.

YAML is only read into nodes, never into Python objects, so ``NO`` stays text and no tag can build anything.
Anchors, aliases and duplicate keys are refused, size and nesting are limited. What the keys mean is in
``docs/guide/rules.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from profiles.faults import Fault
from profiles.order import Priority
from task_manager.errors import ConfigurationError
from task_manager.rules.attributes import suggestion
from task_manager.rules.conditions import ConditionReader
from task_manager.rules.model import (
    All,
    Direction,
    Preference,
    Rule,
    RuleSet,
    SeriesRequirement,
    Take,
)
from task_manager.rules.nodes import Entry, FaultList, read_document

_RULE_KEYS = ("name", "app", "when", "series", "priority", "destinations", "parameters")
_SERIES_KEYS = ("name", "where", "min_instances", "max_instances", "prefer", "take")
_PREFERENCE_KEYS = ("attribute", "tag", "creator", "order", "values")
_MAXIMUM_INSTANCES = 1_000_000
_Kind = TypeVar("_Kind", bound=StrEnum)


def parse_rules(
    text: str,
    source: str,
    *,
    apps: Collection[str] | None = None,
    destinations: Collection[str] | None = None,
) -> RuleSet:
    """The rules of one text; see :func:`parse_rule_texts`."""
    return parse_rule_texts({source: text}, apps=apps, destinations=destinations)


def load_rules(
    folder: Path, *, apps: Collection[str] | None = None, destinations: Collection[str] | None = None
) -> RuleSet:
    """The rules of all ``*.yaml`` files of `folder`, in order of their names; no folder means no rules.

    Raises
    ------
    ConfigurationError
        As :func:`parse_rule_texts`, or if a file cannot be read as UTF-8 text.
    """
    texts: dict[str, str] = {}
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            texts[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(f"{path}:1", f"cannot be read as UTF-8 text ({type(error).__name__})"))
    if faults:
        raise ConfigurationError(*faults)
    return parse_rule_texts(texts, apps=apps, destinations=destinations)


def parse_rule_texts(
    texts: Mapping[str, str],
    *,
    apps: Collection[str] | None = None,
    destinations: Collection[str] | None = None,
) -> RuleSet:
    """One rule set of several texts.

    Parameters
    ----------
    texts
        Name of the source (shown in faults and explanations) to YAML text.
    apps, destinations
        Names that exist; None leaves them unchecked.

    Raises
    ------
    ConfigurationError
        With every fault of every text.
    """
    faults = FaultList()
    reader = _RuleReader(faults, apps, destinations)
    digest = hashlib.sha256()
    for source, text in texts.items():
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        root = read_document(text, source, faults)
        if root is not None:
            reader.read_file(root)
    if faults.found:
        raise ConfigurationError(*faults.found)
    return RuleSet(version=digest.hexdigest()[:12], rules=tuple(reader.rules))


class _RuleReader:
    """Reads rules, collecting faults and refusing one name for two rules."""

    def __init__(
        self, faults: FaultList, apps: Collection[str] | None, destinations: Collection[str] | None
    ) -> None:
        self.faults = faults
        self.apps = apps
        self.destinations = destinations
        self.conditions = ConditionReader(faults)
        self.rules: list[Rule] = []
        self.names: set[str] = set()

    def read_file(self, root: Entry) -> None:
        keys = root.mapping(self.faults, ("rules",), required=("rules",))
        if "rules" in keys:
            for entry in keys["rules"].sequence(self.faults):
                rule = self.rule(entry)
                if rule is not None:
                    self.rules.append(rule)

    def rule(self, entry: Entry) -> Rule | None:
        keys = entry.mapping(self.faults, _RULE_KEYS, required=("name", "app", "series"))
        name = self.name(keys, "name", self.names, "rule")
        app = self.known(keys["app"], self.apps, "app") if "app" in keys else ""
        requirement_names: set[str] = set()
        requirements: list[SeriesRequirement] = []
        if "series" in keys:
            entries = keys["series"].sequence(self.faults)
            if not entries:
                self.faults.add(keys["series"], "at least one series is needed")
            requirements = [self.requirement(one, requirement_names) for one in entries]
        if not name or not app or not requirements:
            return None
        return Rule(
            name=name,
            app=app,
            when=self.conditions.condition(keys["when"]) if "when" in keys else All(()),
            series=tuple(requirements),
            priority=self.choice(keys, "priority", Priority) if "priority" in keys else None,
            destinations=tuple(
                self.known(one, self.destinations, "destination")
                for one in (keys["destinations"].sequence(self.faults) if "destinations" in keys else ())
            ),
            parameters=self.parameters(keys),
            source=f"{entry.source}:{entry.line}",
        )

    def requirement(self, entry: Entry, names: set[str]) -> SeriesRequirement:
        keys = entry.mapping(self.faults, _SERIES_KEYS, required=("name",))
        least = self.count(keys, "min_instances", 1)
        most = self.count(keys, "max_instances", _MAXIMUM_INSTANCES) if "max_instances" in keys else None
        if most is not None and most < least:
            self.faults.add(keys["max_instances"], f"less than min_instances ({least})")
        return SeriesRequirement(
            name=self.name(keys, "name", names, "series"),
            where=self.conditions.condition(keys["where"]) if "where" in keys else All(()),
            min_instances=least,
            max_instances=most,
            prefer=tuple(
                preference
                for one in (keys["prefer"].sequence(self.faults) if "prefer" in keys else ())
                if (preference := self.preference(one)) is not None
            ),
            take=(self.choice(keys, "take", Take) or Take.ONE) if "take" in keys else Take.ONE,
        )

    def preference(self, entry: Entry) -> Preference | None:
        keys = entry.mapping(self.faults, _PREFERENCE_KEYS)
        reference = self.conditions.named_reference(entry, keys, "attribute")
        if ("order" in keys) == ("values" in keys):
            self.faults.add(entry, "needs either order (ascending, descending) or values")
            return None
        if reference is None:
            return None
        if "order" in keys:
            direction = self.choice(keys, "order", Direction)
            return Preference(reference=reference, direction=direction) if direction else None
        values = tuple(one.text(self.faults) for one in keys["values"].sequence(self.faults))
        return Preference(reference=reference, values=values)

    def name(self, keys: Mapping[str, Entry], key: str, taken: set[str], kind: str) -> str:
        if key not in keys:
            return ""
        name = keys[key].text(self.faults)
        if not name or len(name) > 64:
            self.faults.add(keys[key], "a name has 1 to 64 characters")
        if name in taken:
            self.faults.add(keys[key], f"another {kind} has the name {name!r}")
        taken.add(name)
        return name

    def known(self, entry: Entry, names: Collection[str] | None, kind: str) -> str:
        name = entry.text(self.faults)
        if not name:
            self.faults.add(entry, f"the name of the {kind} is empty")
        elif names is not None and name not in names:
            self.faults.add(entry, f"there is no {kind} {name!r}{suggestion(name, tuple(names))}")
        return name

    def count(self, keys: Mapping[str, Entry], key: str, default: int) -> int:
        if key not in keys:
            return default
        text = keys[key].text(self.faults)
        digits = text if text.isascii() and text.isdigit() and len(text) < 8 else "0"
        if not 1 <= int(digits) <= _MAXIMUM_INSTANCES:
            self.faults.add(keys[key], f"must be a whole number from 1 to {_MAXIMUM_INSTANCES}")
            return default
        return int(text)

    def choice(self, keys: Mapping[str, Entry], key: str, kind: type[_Kind]) -> _Kind | None:
        try:
            return kind(keys[key].text(self.faults))
        except ValueError:
            self.faults.add(keys[key], f"must be one of {', '.join(kind)}")
            return None

    def parameters(self, keys: Mapping[str, Entry]) -> dict[str, str]:
        if "parameters" not in keys:
            return {}
        return {
            name: value.text(self.faults) for name, value in keys["parameters"].mapping(self.faults).items()
        }
