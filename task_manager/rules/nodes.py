# SPDX-License-Identifier: Apache-2.0
"""YAML text as nodes with their place, before anything is made of them.

Only scalars, sequences and mappings exist here, and every scalar is text. Hostile texts cost little: size
and nesting are limited before the tree is built, and anchors, aliases and explicit tags are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml

from profiles.faults import Fault
from task_manager.rules.attributes import suggestion

_MAXIMUM_CHARACTERS = 1_000_000
_MAXIMUM_NESTING = 40


@dataclass(slots=True)
class FaultList:
    """Faults found so far."""

    found: list[Fault] = field(default_factory=list)

    def add(self, entry: Entry, message: str) -> None:
        """Add a fault at the place of `entry`."""
        where = f"{entry.source}:{entry.line}"
        self.found.append(Fault(f"{where} {entry.key}" if entry.key else where, message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A node with its place: file, line from 1, and path of keys."""

    node: yaml.Node
    source: str
    key: str = ""

    @property
    def line(self) -> int:
        """Line of the node's start, from 1."""
        mark = self.node.start_mark
        return mark.line + 1 if mark is not None else 1

    @property
    def is_mapping(self) -> bool:
        """Whether this is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_sequence(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def text(self, faults: FaultList) -> str:
        """The text of a scalar, as written and without surrounding blanks; a fault and empty otherwise."""
        if isinstance(self.node, yaml.ScalarNode):
            text = str(self.node.value).strip()
            if any("\ud800" <= character <= "\udfff" for character in text):
                faults.add(self, "holds half a character (a lone surrogate)")
                return ""
            return text
        faults.add(self, "must be a single value")
        return ""

    def sequence(self, faults: FaultList) -> list[Entry]:
        """The entries of a list; a fault and empty otherwise."""
        if not isinstance(self.node, yaml.SequenceNode):
            faults.add(self, "must be a list")
            return []
        return [
            Entry(node=node, source=self.source, key=f"{self.key}[{index}]")
            for index, node in enumerate(self.node.value)
        ]

    def mapping(
        self, faults: FaultList, known: Sequence[str] | None = None, required: Sequence[str] = ()
    ) -> dict[str, Entry]:
        """Key to entry, in order; faults for duplicate, unknown and missing keys."""
        if not isinstance(self.node, yaml.MappingNode):
            faults.add(self, "must be a mapping of keys to values")
            return {}
        entries: dict[str, Entry] = {}
        for key_node, value_node in self.node.value:
            at_key = Entry(node=key_node, source=self.source, key=self.key)
            name = at_key.text(faults)
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            path = f"{self.key}.{name}" if self.key else name
            placed = Entry(node=key_node, source=self.source, key=path)
            if name in entries:
                faults.add(placed, "the key is given twice")
            elif known is not None and name not in known:
                faults.add(placed, f"unknown key{suggestion(name, tuple(known))}; known: {', '.join(known)}")
            else:
                entries[name] = Entry(node=value_node, source=self.source, key=path)
        for name in required:
            if name not in entries:
                faults.add(self, f"the key {name!r} is missing")
        return entries


def read_document(text: str, source: str, faults: FaultList) -> Entry | None:
    """The root of the one document in `text`, or None after adding why there is none."""
    if len(text) > _MAXIMUM_CHARACTERS:
        faults.found.append(Fault(f"{source}:1", f"longer than {_MAXIMUM_CHARACTERS} characters"))
        return None
    try:
        if not _is_plain(text, source, faults):
            return None
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or "it has characters that YAML does not allow"
        faults.found.append(Fault(f"{source}:{line}", f"no valid YAML: {problem}"))
        return None
    if node is None:
        faults.found.append(Fault(f"{source}:1", "the file is empty"))
        return None
    return Entry(node=node, source=source)


def _is_plain(text: str, source: str, faults: FaultList) -> bool:
    """Whether the events hold nothing that is refused; nesting is counted before any recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{source}:{event.start_mark.line + 1 if event.start_mark is not None else 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            faults.found.append(Fault(where, "anchors and aliases are not allowed"))
            return False
        if getattr(event, "tag", None):
            faults.found.append(Fault(where, "tags (!...) are not allowed"))
            return False
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAXIMUM_NESTING:
            faults.found.append(Fault(where, f"nested more than {_MAXIMUM_NESTING} levels deep"))
            return False
    return True
