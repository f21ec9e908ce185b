# SPDX-License-Identifier: Apache-2.0
"""Parsing: every fault with file, line and key; hostile texts; the files we ship and the guide."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.order import Priority
from task_manager.errors import ConfigurationError
from task_manager.rules.model import Direction, Take
from task_manager.rules.parse import load_rules, parse_rule_texts, parse_rules
from tests.unit.task_manager.rules.studies import rule_text

ROOT = Path(__file__).parents[4]


def faults(text: str, **known: tuple[str, ...]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_rules(text, "r.yaml", **known)
    return [str(fault) for fault in caught.value.faults]


FULL = """
rules:
  - name: lung
    app: lung-ct
    when:
      StudyDescription: {like: "*chest*"}
    priority: HIGH
    destinations: [pacs, emr]
    parameters: {threshold_hu: -950, smooth: NO}
    series:
      - name: stack
        where: {Modality: CT}
        min_instances: 20
        max_instances: 2000
        take: all
        prefer:
          - {attribute: SliceThickness, order: ascending}
          - {tag: 0029xx10, creator: ACME, values: [A, "B*"]}
"""


def test_everything_a_rule_can_say() -> None:
    rules = parse_rules(FULL, "full.yaml", apps=("lung-ct",), destinations=("pacs", "emr"))
    (rule,) = rules.rules
    assert (rule.name, rule.app, rule.priority) == ("lung", "lung-ct", Priority.HIGH)
    assert rule.destinations == ("pacs", "emr")
    assert rule.parameters == {"threshold_hu": "-950", "smooth": "NO"}
    assert rule.source == "full.yaml:3"
    (series,) = rule.series
    assert (series.min_instances, series.max_instances, series.take) == (20, 2000, Take.ALL)
    assert series.prefer[0].direction is Direction.ASCENDING
    assert series.prefer[1].values == ("A", "B*")
    assert series.prefer[1].reference.steps[0].creator == "ACME"


def test_version_is_that_of_the_content() -> None:
    assert parse_rules(FULL, "a").version == parse_rules(FULL, "b").version
    assert parse_rules(FULL, "a").version != parse_rules(FULL + "# changed\n", "a").version


FAULTS = [
    ("", "r.yaml:1: the file is empty"),
    ("rules: [", "r.yaml:1: no valid YAML"),
    ("a: b: c", "r.yaml:1: no valid YAML"),
    ("\x00", "r.yaml:1: no valid YAML"),
    ("- x", "r.yaml:1: must be a mapping"),
    ("rules: {}", "r.yaml:1 rules: must be a list"),
    ("rule: []", "unknown key (did you mean rules?)"),
    ("rules: [x]", "r.yaml:1 rules[0]: must be a mapping"),
    ("rules:\n  - name: a\n    nmae: b", "r.yaml:3 rules[0].nmae: unknown key (did you mean name?)"),
    ("rules:\n  - app: a\n    series: [{name: s}]", "r.yaml:2 rules[0]: the key 'name' is missing"),
    (rule_text() + "\n    name: again", "r.yaml:6 rules[0].name: the key is given twice"),
    (rule_text() + "\n" + rule_text()[7:], "another rule has the name 'r'"),
    (rule_text() + "\n      - {name: any}", "another series has the name 'any'"),
    (rule_text() + "\n    priority: URGENT", "must be one of HIGH, MEDIUM, LOW"),
    (rule_text() + "\n    destinations: pacs", "must be a list"),
    (
        rule_text("{Modalty: CT}"),
        "r.yaml:4 rules[0].when.Modalty: unknown keyword 'Modalty' (did you mean Modality?)",
    ),
    (rule_text("{'(0008,0061)x': CT}"), "is no keyword, no tag"),
    (rule_text("{'(0007,0008)': CT}"), "is private: name its creator"),
    (rule_text("{'(0018,FFFE)': CT}"), "unknown tag"),
    (rule_text("{'0018xx15': CT}"), "only a private (odd) group"),
    (rule_text("{Modality.CodeValue: CT}"), "is no sequence"),
    (rule_text("{'Modality[0]': CT}"), "has no index"),
    (rule_text("{'" + ".".join(["ContentSequence"] * 9) + "': CT}"), "1 to 8 steps"),
    (rule_text("{order.Prioriti: HIGH}"), "the order has no field 'Prioriti' (did you mean Priority?)"),
    (rule_text("{Modality: {equal: CT}}"), "unknown key (did you mean equals?)"),
    (rule_text("{Modality: {}}"), "asks nothing"),
    (rule_text("{}"), "the condition is empty"),
    (rule_text("{all: []}"), "the list of conditions is empty"),
    (rule_text("{all: {Modality: CT}}"), "must be a list"),
    (rule_text("{Modality: ''}"), "for a missing value ask `exists: false`"),
    (rule_text("{Modality: []}"), "the list of values is empty"),
    (rule_text("{Modality: {exists: maybe}}"), "must be true or false"),
    (rule_text("{Modality: {regex: '(a'}}"), "no usable regular expression"),
    (rule_text("{Modality: {code: X}}"), "is no code sequence"),
    (rule_text("{Modality: {like: '" + "*a" * 129 + "'}}"), "longer than 256 characters"),
    (rule_text("{ProcedureCodeSequence: {code: {scheme: X}}}"), "the key 'value' is missing"),
    (rule_text("{SliceThickness: {lt: thin}}"), "must be a number"),
    (rule_text("{StudyDate: {lt: 2024-02-30}}"), "must be a date"),
    (rule_text("{StudyTime: {lt: 25}}"), "must be a time"),
    (rule_text("{PatientAge: {lt: old}}"), "must be an age"),
    (rule_text("{SliceThickness: {lt: 1, le: 2}}"), "one upper bound"),
    (rule_text("{tag: 0029xx10, equals: X}"), "name its creator"),
    (rule_text("{tag: 0029xx10, creator: A}"), "asks nothing of the attribute"),
    (rule_text(series_text="{name: s, min_instances: 0}"), "must be a whole number from 1"),
    (rule_text(series_text="{name: s, min_instances: 5, max_instances: 4}"), "less than min_instances"),
    (rule_text(series_text="{name: s, take: some}"), "must be one of one, all"),
    (rule_text(series_text="{name: s, prefer: [{attribute: KVP}]}"), "needs either order"),
    (rule_text(series_text="{name: s, prefer: [{order: ascending}]}"), "needs either attribute or tag"),
    (rule_text(series_text="{name: s, prefer: [{attribute: KVP, order: up}]}"), "must be one of ascending"),
    (rule_text(series_text="{name: ''}"), "a name has 1 to 64 characters"),
    ("rules:\n  - {name: a, app: b, series: []}", "at least one series is needed"),
    ("rules: &x [*x]", "anchors and aliases are not allowed"),
    ("rules: !!python/object:os.system []", "tags (!...) are not allowed"),
    ("rules: " + "[" * 60 + "]" * 60, "nested more than 40 levels"),
    ("#" + "x" * 1_000_000, "longer than"),
    ("rules:\n  - {[a]: b}", "must be a single value"),
    ("match: some\n" + rule_text(), "r.yaml:1 match: must be one of all, first"),
    ("version: ''\n" + rule_text(), "a name has 1 to 64 characters"),
    ("time_zone: Mars/Olympus\n" + rule_text(), "there is no time zone 'Mars/Olympus'"),
    ("time_zone: ../../etc/passwd\n" + rule_text(), "there is no time zone"),
    ("classifier: {confidence: 2}\n" + rule_text(), "must be a number from 0 to 1"),
    ("classifier: {confidence: 0.5}\n" + rule_text(), "the key 'model' is missing"),
    ("classifier: {model: none.onnx}\n" + rule_text(), "r.yaml:1 classifier.model: no usable classifier"),
    (rule_text("{learned.class: T1}"), "the file names no classifier"),
    (rule_text("{geometry.spacing: 1}"), "'geometry.spacing' (did you mean geometry.spacing_mm?)"),
    (rule_text("{geometry.spacing_mm: {lt: thin}}"), "must be a number"),
    (rule_text("{source.caling_ae: X}"), "(did you mean source.calling_ae?)"),
    (rule_text("{first_known: {Modality: CT}}"), "must be a list"),
    (rule_text() + "\n    active: []", "the list of windows is empty"),
    (rule_text() + "\n    active: [{}]", "the window is empty"),
    (rule_text() + "\n    active: [{days: MUN}]", "must be one of MON"),
    (rule_text() + "\n    active: [{from: '25:00'}]", "must be a time of day"),
    (rule_text() + "\n    active: [{from: '07:00', to: '07:00'}]", "the same as from"),
    (rule_text() + "\n    active: [{since: 2026-02-30}]", "must be a date"),
    (rule_text() + "\n    active: [{since: 2026-02-01, until: 2026-01-01}]", "before since"),
    (rule_text(series_text="{name: s, review_above: 0}"), "must be a whole number from 1"),
    (rule_text(series_text="{name: s, other_than: [s]}"), "there is no earlier input 's'"),
    (rule_text(series_text="{name: s, images: {wher: {Modality: CT}}}"), "did you mean where?"),
    (rule_text('{StudyDescription: "\\uD800"}'), "holds half a character"),
]


@pytest.mark.parametrize(("text", "said"), FAULTS, ids=[said[:50] for _, said in FAULTS])
def test_fault(text: str, said: str) -> None:
    assert any(said in fault for fault in faults(text)), faults(text)


def test_all_faults_come_at_once_with_their_lines() -> None:
    text = rule_text("{Modalty: CT, KVP: {lt: x}}", "{name: s, take: some}") + "\n    colour: red"
    assert [fault.split(":")[1].split(" ")[0] for fault in faults(text)] == ["7", "6", "4", "4"]


def test_names_that_do_not_exist() -> None:
    text = rule_text() + "\n    destinations: [pasc]"
    found = faults(text, apps=("lung-ct",), destinations=("pacs",))
    assert found == [
        "r.yaml:3 rules[0].app: there is no app 'a'",
        "r.yaml:6 rules[0].destinations[0]: there is no destination 'pasc' (did you mean pacs?)",
    ]


def test_a_name_twice_in_two_files() -> None:
    with pytest.raises(ConfigurationError, match=r"b\.yaml:2 rules\[0\]\.name: another rule"):
        parse_rule_texts({"a.yaml": rule_text(), "b.yaml": rule_text()})


def test_a_billion_laughs_cost_nothing() -> None:
    laughs = "\n".join(
        ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    )
    started = time.process_time()
    assert "anchors and aliases" in faults(laughs)[0]
    assert time.process_time() - started < 10


def test_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "20.yaml").write_text(rule_text().replace("name: r", "name: second"), encoding="utf-8")
    (tmp_path / "10.yaml").write_text(rule_text().replace("name: r", "name: first"), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not a rule", encoding="utf-8")
    assert [rule.name for rule in load_rules(tmp_path).rules] == ["first", "second"]
    assert load_rules(tmp_path / "absent").rules == ()
    (tmp_path / "30.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigurationError, match=r"30\.yaml:1: cannot be read as UTF-8"):
        load_rules(tmp_path)


YAML_LIKE = st.text(alphabet="rules:\n -{}[]'\"&*!|>#%@`nameappseriesoder.MdlityCT0,()x", max_size=200)


@given(
    text=st.one_of(st.text(max_size=200), YAML_LIKE, YAML_LIKE.map(lambda t: rule_text(t.replace("\n", " "))))
)
def test_any_text_is_rules_or_faults(text: str) -> None:
    found = ()
    rules = None
    try:
        rules = parse_rules(text, "any")
    except ConfigurationError as error:
        found = error.faults
    assert found or rules is not None


def test_shipped_rules_are_good() -> None:
    rules = load_rules(ROOT / "informatics_gateway" / "defaults" / "rules", apps=("lung-ct",))
    assert [rule.name for rule in rules.rules] == ["lung-ct"]


def test_every_example_of_the_guide_is_good() -> None:
    guide = (ROOT / "docs" / "guide" / "rules.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    assert len(examples) >= 6
    for number, example in enumerate(examples):
        assert parse_rules(example, f"example {number}").rules
