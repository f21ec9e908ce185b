# SPDX-License-Identifier: Apache-2.0
"""Rules from YAML text: all faults at once, each with file, line and key.

YAML is only read into nodes, never into Python objects, so ``NO`` stays text and no tag can build anything.
Anchors, aliases and duplicate keys are refused, size and nesting are limited. What the keys mean is in
``docs/guide/rules.md`` and, from :data:`KEYS`, in ``docs/reference/rules.md``.
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
from task_manager.rules.comparison import number
from task_manager.rules.completeness import KEYS as COMPLETENESS_KEYS
from task_manager.rules.completeness import read_completeness
from task_manager.rules.conditions import ConditionReader
from task_manager.rules.learned import open_classifier
from task_manager.rules.model import (
    All,
    Condition,
    Direction,
    ImageChoice,
    Learned,
    Preference,
    PriorRequirement,
    Rule,
    RuleSet,
    SeriesClassifier,
    SeriesRequirement,
    Take,
)
from task_manager.rules.nodes import Entry, FaultList, read_document
from task_manager.rules.windows import read_window, read_zone


class Match(StrEnum):
    """Which rules of a file run: every one that matches, or the first."""

    ALL = "all"
    FIRST = "first"


KEYS: Mapping[str, Mapping[str, str]] = {
    "file": {
        "version": "what you call this version of the file; explanations show it with the digest",
        "match": "`all` (default): every rule that matches runs; `first`: of this file only the first",
        "time_zone": "IANA name of the zone of `active`; UTC without it",
        "classifier": "series classifier that `learned.class` asks",
        "rules": "**required**; list of rules",
    },
    "classifier": {
        "model": "**required**; ONNX file that `airway rules train` wrote, beside this file",
        "confidence": "0 to 1 (default 0.8); below it `learned.class` is unknown",
    },
    "rule": {
        "name": "**required**; 1 to 64 characters, unique in all files",
        "app": "**required**; the app to run",
        "active": "list of time windows; the study must have begun to arrive in one",
        "when": "condition on the study and its order; without it any study",
        "series": "**required**; list of inputs, each must find a series",
        "priors": "list of inputs that are earlier studies of the same patient",
        "priority": "`HIGH`, `MEDIUM` or `LOW`; without it the order's, else the app's, else `MEDIUM`",
        "destinations": "names of destinations for the results; without it all",
        "parameters": "parameters of the app, over its defaults",
        "completeness": "what completes a study for this rule; without it as its source has it",
    },
    "completeness": COMPLETENESS_KEYS,
    "window": {
        "days": "`MON-FRI`, `SAT`, or a list of such; without it every day",
        "from": "time of day, inclusive; without it 00:00",
        "to": "time of day, exclusive; not after `from`: of the next day; without it 24:00",
        "since": "first day",
        "until": "last day",
    },
    "input": {
        "name": "**required**; unique in the rule",
        "where": "condition on the series; without it any series",
        "min_instances": "fewest instances, 1 without it",
        "max_instances": "most instances",
        "prefer": "list of preferences that rank candidates, the first entry first",
        "take": "`one` (default): the first candidate; `all`: every candidate",
        "images": "choice among the images of the series",
        "review_above": "with more candidates than this a person decides",
        "other_than": "names of earlier inputs whose series are not taken again",
        "parameter": "parameter of the app that gets the Series Instance UIDs of this input",
    },
    "prior": {
        "name": "**required**; unique in the rule",
        "parameter": "parameter of the app that gets the Series Instance UIDs of this input",
        "required": "`true`: a person decides if there is none; `false` (default): the app runs without",
        "count": "how many studies at most, the newest first; 1 without it",
        "modality": "modality or list; the study must have one; `same`: of this study; without it any",
        "body_part": "body part or list; as `modality`",
        "description": "pattern or list of patterns of the study description, with `*` and `?`",
        "min_age_days": "made at least so many days before this study",
        "max_age_days": "made at most so many days before this study",
        "archives": "names of the archives that are asked; without it all",
        "wait_min": "how long is waited for them, minutes; 30 without it",
        "where": "condition on their series; without it any series",
        "min_instances": "fewest instances of a series, 1 without it",
        "max_instances": "most instances of a series",
        "prefer": "list of preferences that rank their series",
        "take": "`all` (default): every series that fits; `one`: the first of each study",
    },
    "images": {
        "where": "condition on the image",
        "prefer": "list of preferences that rank images",
        "take": "`one` (default): the first image of each series taken; `all`: every image that fits",
        "review_above": "with more images that fit than this a person decides",
    },
    "preference": {
        "attribute": "what to rank by; or `tag` and `creator`",
        "tag": "a private attribute",
        "creator": "its private creator",
        "order": "`ascending` or `descending`, by number",
        "values": "list of texts, the best first, with `*` and `?`; or `order`",
    },
}
"""Every key of the language and what it means, by where it stands."""

_MAXIMUM_INSTANCES = 1_000_000
_DEFAULT_CONFIDENCE = 0.8
_WAIT_MIN = 30
_Kind = TypeVar("_Kind", bound=StrEnum)


def parse_rules(
    text: str,
    source: str,
    *,
    apps: Collection[str] | None = None,
    destinations: Collection[str] | None = None,
    archives: Collection[str] | None = None,
) -> RuleSet:
    """The rules of one text; see :func:`parse_rule_texts`."""
    return parse_rule_texts({source: text}, apps=apps, destinations=destinations, archives=archives)


def load_rules(
    place: Path,
    *,
    apps: Collection[str] | None = None,
    destinations: Collection[str] | None = None,
    archives: Collection[str] | None = None,
) -> RuleSet:
    """The rules of a file, or of all ``*.yaml`` files of a folder in order of their names; none without it.

    Raises
    ------
    ConfigurationError
        As :func:`parse_rule_texts`, or if a file cannot be read as UTF-8 text.
    """
    texts: dict[str, str] = {}
    faults: list[Fault] = []
    for path in [place] if place.is_file() else sorted(place.glob("*.yaml")):
        try:
            texts[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(f"{path}:1", f"cannot be read as UTF-8 text ({type(error).__name__})"))
    if faults:
        raise ConfigurationError(*faults)
    return parse_rule_texts(texts, apps=apps, destinations=destinations, archives=archives)


def parse_rule_texts(
    texts: Mapping[str, str],
    *,
    apps: Collection[str] | None = None,
    destinations: Collection[str] | None = None,
    archives: Collection[str] | None = None,
) -> RuleSet:
    """One rule set of several texts; models they name are read from beside them.

    Parameters
    ----------
    texts
        Name of the source (shown in faults and explanations) to YAML text.
    apps, destinations, archives
        Names that exist; None leaves them unchecked.

    Raises
    ------
    ConfigurationError
        With every fault of every text.
    """
    faults = FaultList()
    reader = _RuleReader(faults, apps, destinations, archives)
    digest = hashlib.sha256()
    for source, text in texts.items():
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        root = read_document(text, source, faults)
        if root is not None:
            reader.read_file(root)
    if faults.found:
        raise ConfigurationError(*faults.found)
    for content in reader.model_digests:
        digest.update(content)
    return RuleSet(version=digest.hexdigest()[:12], rules=tuple(reader.rules), classifiers=reader.classifiers)


class _RuleReader:
    """Reads rules, collecting faults and refusing one name for two rules."""

    def __init__(
        self,
        faults: FaultList,
        apps: Collection[str] | None,
        destinations: Collection[str] | None,
        archives: Collection[str] | None,
    ) -> None:
        self.faults = faults
        self.apps = apps
        self.destinations = destinations
        self.archives = archives
        self.conditions = ConditionReader(faults)
        self.rules: list[Rule] = []
        self.names: set[str] = set()
        self.classifiers: dict[str, SeriesClassifier] = {}
        self.model_digests: list[bytes] = []
        self.match = Match.ALL
        self.zone = "UTC"
        self.label = ""

    def read_file(self, root: Entry) -> None:
        keys = root.mapping(self.faults, tuple(KEYS["file"]), required=("rules",))
        self.match = (self.choice(keys, "match", Match) or Match.ALL) if "match" in keys else Match.ALL
        self.zone = read_zone(keys["time_zone"], self.faults) if "time_zone" in keys else "UTC"
        self.label = self.name(keys, "version", set(), "file")
        self.conditions.learned = self.classifier(keys["classifier"]) if "classifier" in keys else None
        if "rules" in keys:
            for entry in keys["rules"].sequence(self.faults):
                rule = self.rule(entry)
                if rule is not None:
                    self.rules.append(rule)

    def classifier(self, entry: Entry) -> Learned | None:
        keys = entry.mapping(self.faults, tuple(KEYS["classifier"]), required=("model",))
        confidence = _DEFAULT_CONFIDENCE
        if "confidence" in keys:
            found = number(keys["confidence"].text(self.faults))
            if found is None or not 0 <= found <= 1:
                self.faults.add(keys["confidence"], "must be a number from 0 to 1")
            else:
                confidence = found
        name = keys["model"].text(self.faults) if "model" in keys else ""
        if not name:
            return None
        path = Path(entry.source).parent / name
        try:
            self.classifiers[str(path)] = open_classifier(path)
            self.model_digests.append(hashlib.sha256(path.read_bytes()).digest())
        except (OSError, ValueError) as error:
            self.faults.add(keys["model"], f"no usable classifier: {error}")
        return Learned(model=str(path), confidence=confidence)

    def rule(self, entry: Entry) -> Rule | None:
        keys = entry.mapping(self.faults, tuple(KEYS["rule"]), required=("name", "app", "series"))
        name = self.name(keys, "name", self.names, "rule")
        app = self.known(keys["app"], self.apps, "app") if "app" in keys else ""
        requirement_names: list[str] = []
        requirements: list[SeriesRequirement] = []
        if "series" in keys:
            entries = keys["series"].sequence(self.faults)
            if not entries:
                self.faults.add(keys["series"], "at least one series is needed")
            requirements = [self.requirement(one, requirement_names) for one in entries]
        priors = [
            self.prior(one, requirement_names)
            for one in (keys["priors"].sequence(self.faults) if "priors" in keys else ())
        ]
        active = keys["active"].sequence(self.faults) if "active" in keys else []
        if "active" in keys and not active and keys["active"].is_sequence:
            self.faults.add(keys["active"], "the list of windows is empty")
        if not name or not app or not requirements:
            return None
        return Rule(
            name=name,
            app=app,
            when=self.condition(keys, "when"),
            series=tuple(requirements),
            priors=tuple(priors),
            active=tuple(read_window(one, self.zone, self.faults) for one in active),
            priority=self.choice(keys, "priority", Priority) if "priority" in keys else None,
            destinations=tuple(
                self.known(one, self.destinations, "destination")
                for one in (keys["destinations"].sequence(self.faults) if "destinations" in keys else ())
            ),
            parameters=self.parameters(keys),
            source=f"{entry.source}:{entry.line}",
            group=entry.source,
            first_match=self.match is Match.FIRST,
            label=self.label,
            completeness=(
                read_completeness(keys["completeness"], self.faults) if "completeness" in keys else None
            ),
        )

    def requirement(self, entry: Entry, names: list[str]) -> SeriesRequirement:
        keys = entry.mapping(self.faults, tuple(KEYS["input"]), required=("name",))
        least = self.count(keys, "min_instances") or 1
        most = self.count(keys, "max_instances")
        if most is not None and most < least:
            self.faults.add(keys["max_instances"], f"less than min_instances ({least})")
        earlier = list(names)
        other_than = [
            self.known(one, earlier, "earlier input")
            for one in (keys["other_than"].sequence(self.faults) if "other_than" in keys else ())
        ]
        return SeriesRequirement(
            name=self.name(keys, "name", names, "series"),
            where=self.condition(keys, "where"),
            min_instances=least,
            max_instances=most,
            prefer=self.preferences(keys),
            take=(self.choice(keys, "take", Take) or Take.ONE) if "take" in keys else Take.ONE,
            images=self.images(keys["images"]) if "images" in keys else None,
            review_above=self.count(keys, "review_above"),
            other_than=tuple(other_than),
            parameter=self.name(keys, "parameter", set(), "parameter"),
        )

    def prior(self, entry: Entry, names: list[str]) -> PriorRequirement:
        keys = entry.mapping(self.faults, tuple(KEYS["prior"]), required=("name",))
        name = self.name(keys, "name", names, "input")
        least, oldest = self.count(keys, "min_age_days") or 0, self.count(keys, "max_age_days")
        if oldest is not None and oldest < least:
            self.faults.add(keys["max_age_days"], f"less than min_age_days ({least})")
        fewest, most = self.count(keys, "min_instances") or 1, self.count(keys, "max_instances")
        if most is not None and most < fewest:
            self.faults.add(keys["max_instances"], f"less than min_instances ({fewest})")
        return PriorRequirement(
            name=name,
            series=SeriesRequirement(
                name=name,
                where=self.condition(keys, "where"),
                min_instances=fewest,
                max_instances=most,
                prefer=self.preferences(keys),
                take=(self.choice(keys, "take", Take) or Take.ALL) if "take" in keys else Take.ALL,
            ),
            parameter=self.name(keys, "parameter", set(), "parameter"),
            modality=self.texts(keys, "modality"),
            body_part=self.texts(keys, "body_part"),
            description=self.texts(keys, "description"),
            min_age_days=least,
            max_age_days=oldest,
            count=self.count(keys, "count") or 1,
            archives=tuple(
                self.known(one, self.archives, "archive")
                for one in (keys["archives"].sequence(self.faults) if "archives" in keys else ())
            ),
            required=self.flag(keys, "required"),
            wait_min=self.count(keys, "wait_min") or _WAIT_MIN,
        )

    def texts(self, keys: Mapping[str, Entry], key: str) -> tuple[str, ...]:
        """One text or a list of some, none empty."""
        if key not in keys:
            return ()
        several = keys[key].is_sequence
        entries = keys[key].sequence(self.faults) if several else [keys[key]]
        found = [(one, one.text(self.faults).strip()) for one in entries]
        for one, text in found:
            if not text:
                self.faults.add(one, "must not be empty")
        return tuple(text for _, text in found if text)

    def flag(self, keys: Mapping[str, Entry], key: str) -> bool:
        text = keys[key].text(self.faults) if key in keys else "false"
        if text not in ("true", "false"):
            self.faults.add(keys[key], "must be true or false")
        return text == "true"

    def images(self, entry: Entry) -> ImageChoice:
        keys = entry.mapping(self.faults, tuple(KEYS["images"]))
        return ImageChoice(
            where=self.condition(keys, "where"),
            prefer=self.preferences(keys),
            take=(self.choice(keys, "take", Take) or Take.ONE) if "take" in keys else Take.ONE,
            review_above=self.count(keys, "review_above"),
        )

    def condition(self, keys: Mapping[str, Entry], key: str) -> Condition:
        return self.conditions.condition(keys[key]) if key in keys else All(())

    def preferences(self, keys: Mapping[str, Entry]) -> tuple[Preference, ...]:
        entries = keys["prefer"].sequence(self.faults) if "prefer" in keys else ()
        return tuple(found for one in entries if (found := self.preference(one)) is not None)

    def preference(self, entry: Entry) -> Preference | None:
        keys = entry.mapping(self.faults, tuple(KEYS["preference"]))
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

    def name(self, keys: Mapping[str, Entry], key: str, taken: set[str] | list[str], kind: str) -> str:
        if key not in keys:
            return ""
        name = keys[key].text(self.faults)
        if not name or len(name) > 64:
            self.faults.add(keys[key], "a name has 1 to 64 characters")
        if name in taken:
            self.faults.add(keys[key], f"another {kind} has the name {name!r}")
        if isinstance(taken, set):
            taken.add(name)
        else:
            taken.append(name)
        return name

    def known(self, entry: Entry, names: Collection[str] | None, kind: str) -> str:
        name = entry.text(self.faults)
        if not name:
            self.faults.add(entry, f"the name of the {kind} is empty")
        elif names is not None and name not in names:
            self.faults.add(entry, f"there is no {kind} {name!r}{suggestion(name, tuple(names))}")
        return name

    def count(self, keys: Mapping[str, Entry], key: str) -> int | None:
        if key not in keys:
            return None
        text = keys[key].text(self.faults)
        digits = text if text.isascii() and text.isdigit() and len(text) < 8 else "0"
        if not 1 <= int(digits) <= _MAXIMUM_INSTANCES:
            self.faults.add(keys[key], f"must be a whole number from 1 to {_MAXIMUM_INSTANCES}")
            return None
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
