# SPDX-License-Identifier: Apache-2.0
"""`airway rules …`: rules tried on files, replayed over past studies, and a series classifier trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress

from informatics_gateway.app import utc_now
from informatics_gateway.commands.console import ERR, OUT, fail, program
from informatics_gateway.configuration import database_url, load_settings, rules_folder
from profiles.hl7.order import ParsedOrderMessage, parse_order_message
from profiles.order import Order
from profiles.request import IMAGES_CAME, RequestKind, Trigger
from task_manager.actor import Source
from task_manager.errors import InputError
from task_manager.outcome import Refused
from task_manager.replay import RuleDifference, StudyReplay, reasons, replayed
from task_manager.rules.acquisition import NOTHING_KNOWN
from task_manager.rules.attributes import UnknownAttributeError, plain
from task_manager.rules.dry_run import GatheredStudy, gathered_studies
from task_manager.rules.evaluate import Evaluator
from task_manager.rules.explain import RuleExplanation, render, to_json
from task_manager.rules.functional_groups import with_functional_groups
from task_manager.rules.learned import reference_of
from task_manager.rules.model import RuleSet
from task_manager.rules.parse import load_rules
from task_manager.rules.scope import World
from task_manager.rules.training import GROUP, LABEL, read_table, train
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.study.header import read_header
from task_manager.study.model import InstanceHeader

_MOST_FILES = 200_000
_MOST_REFUSED_SHOWN = 20
_MOST_TABLE_BYTES = 256 << 20
_MOST_ORDER_BYTES = 4 << 20
_CONFIDENCES = (0.5, 0.8, 0.9, 0.95)
COLUMNS = (
    "Modality", "SeriesDescription", "ProtocolName", "ImageType", "BodyPartExamined", "SequenceName",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "InversionTime", "FlipAngle", "EchoTrainLength", "MagneticFieldStrength", "ContrastBolusAgent",
    "ConvolutionKernel", "KVP", "SliceThickness", "ViewPosition", "NumberOfSeriesRelatedInstances",
    "geometry.orientation", "geometry.spacing_mm", "geometry.slices", "geometry.images_per_slice",
    "geometry.coverage_mm", "acquisition.b_value_count", "acquisition.echo_count",
    "acquisition.temporal_positions",
)  # fmt: skip
"""What a table of headers holds by default: what tells one kind of series from another."""


def try_rules(
    rules: Path,
    study: Path,
    *,
    order: Path | None,
    calling: str,
    called: str,
    at: str,
    as_json: bool,
    asked_by: Sequence[str] = (),
) -> None:
    """Print what rules would make of DICOM files, as if they arrived now or at `at`; nothing is kept."""
    rule_set = _rules(rules)
    arrived = _moment(at, "--at") if at else utc_now()
    asked = _order(order) if order is not None else None
    kinds = [_kind(trigger) for trigger in asked_by]
    if asked is not None:
        kinds.insert(0, RequestKind.HL7)
    source = Source(door="dicom", calling=calling, called=called)
    gathered = gathered_studies(_headers(study), source, arrived)
    if not gathered:
        fail(f"There is no DICOM instance in {study}.", status=1)
    evaluator = Evaluator(rule_set)
    triggers = (IMAGES_CAME, *(Trigger(kind=kind) for kind in dict.fromkeys(kinds)))
    told = [
        (one, evaluator.explain(one.study, asked, one.acquisition, triggers=triggers)) for one in gathered
    ]
    if as_json:
        OUT.print(json.dumps([_study_json(one, found) for one, found in told], indent=2), markup=False)
        return
    for one, found in told:
        images = sum(series.number_of_instances for series in one.study.series)
        OUT.print(
            f"Study {one.study.study_instance_uid}: {images} instances in {len(one.study.series)} series",
            markup=False,
        )
        OUT.print(render(found), markup=False)


def replay_rules(rules: Path | None, since: str, data: Path, config: Path | None, *, as_json: bool) -> None:
    """Print which studies since a time a rule set would treat differently; nothing is changed."""
    settings = load_settings(config)
    place = rules if rules is not None else rules_folder(settings, config)
    rule_set = _rules(place)
    moment = _moment(since, "--since")
    url = database_url(settings, data)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        fail(f"There is no database in {data}. Name the folder that `airway serve` uses with --data.")
    database, objects = Database(url), FileObjectStore(data / "store")
    looked, different = 0, 0
    found_json = []
    try:
        for one in replayed(database, objects.absolute, rule_set, moment):
            looked += 1
            different += bool(one.differences)
            if as_json:
                found_json.append(_replay_json(one))
            elif one.differences:
                OUT.print("\n".join(_replay_lines(one)), markup=False)
    finally:
        database.close()
    if as_json:
        OUT.print(json.dumps(found_json, indent=2), markup=False)
        return
    OUT.print(
        f"{different} of {looked} studies since {moment:%Y-%m-%d %H:%M}Z would be treated differently by "
        f"{place} (version {rule_set.version})",
        markup=False,
    )


def train_classifier(table: Path, output: Path) -> None:
    """Train a series classifier from a CSV of labelled headers and say how well it does."""
    try:
        if table.stat().st_size > _MOST_TABLE_BYTES:
            fail(f"A table holds at most {_MOST_TABLE_BYTES >> 20} MiB.")
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{table} cannot be read as UTF-8 text ({type(error).__name__}).")
    try:
        labelled = read_table(text, str(table))
        OUT.print(f"{len(labelled.rows)} rows, {len(set(labelled.labels))} labels; training", markup=False)
        trained = train(labelled)
    except InputError as error:
        fail("The table needs attention:", *(str(fault) for fault in error.faults))
    _write(output, trained.model)
    OUT.print("Tested on rows that training had not seen (5 parts, groups kept together):", markup=False)
    for confidence in _CONFIDENCES:
        answered, right = trained.share_right(confidence)
        said = f"{right:.1%} of them right" if answered else "none"
        OUT.print(f"  confidence {confidence:g}: {answered:.1%} answered, {said}", markup=False)
    for label, said, number in _confusions(trained.tested):
        OUT.print(f"  taken for another: {label} for {said}, {number} times", markup=False)
    OUT.print(
        f"Written: {output}, {len(trained.features)} features, {len(trained.model)} bytes", markup=False
    )
    OUT.print(
        f"Next: in a file of rules, classifier: {{model: {output.name}, confidence: 0.9}}, then {program()} "
        "rules try",
        markup=False,
    )


def write_headers(folder: Path, output: Path, columns: Sequence[str]) -> None:
    """Write a table of the series in a folder, a line each, for a person to label."""
    try:
        references = {name: reference_of(name) for name in columns or COLUMNS}
    except UnknownAttributeError as error:
        fail(f"No such column: {error}.")
    gathered = gathered_studies(_headers(folder), Source(door="dicom"), utc_now())
    try:
        file = output.open("w", encoding="utf-8", newline="")
    except OSError as error:
        fail(f"{output} cannot be written ({type(error).__name__}).", status=1)
    with file:
        writer = csv.writer(file)
        writer.writerow((LABEL, GROUP, *references))
        rows = 0
        for number, one in enumerate(gathered, start=1):
            world = World(one.study, None, one.acquisition or NOTHING_KNOWN, {})
            for series in one.study.series:
                scope = world.of_series[series.series_instance_uid]
                found = (scope.look(reference)[0].values for reference in references.values())
                cells = ("\\".join(plain(value) for value in values) for values in found)
                writer.writerow(("", f"study {number}", *cells))
                rows += 1
    OUT.print(
        f"Written: {output}, {rows} series of {len(gathered)} studies; fill in the labels", markup=False
    )
    OUT.print(f"Next: {program()} rules train {output} series.onnx", markup=False)


def _rules(place: Path) -> RuleSet:
    if not place.exists():
        fail(f"There is no file or folder {place}.")
    return load_rules(place)


def _headers(folder: Path) -> Iterator[InstanceHeader]:
    """Headers of the DICOM files at or below a path; what is none is told on the error stream."""
    if not folder.exists():
        fail(f"There is no file or folder {folder}.")
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    if len(paths) > _MOST_FILES:
        fail(f"{folder} holds more than {_MOST_FILES} files.")
    refused = 0
    with Progress(console=ERR, transient=True) as bar:
        for path in bar.track(paths, description="reading"):
            if path.name == "DICOMDIR":
                continue
            header = read_header(path)
            if not isinstance(header, Refused):
                yield replace(header, attributes=with_functional_groups(header.attributes, path))
                continue
            refused += 1
            if refused <= _MOST_REFUSED_SHOWN:
                faults = "; ".join(str(fault) for fault in header.faults)
                ERR.print(f"  left out: {path}: {faults}", markup=False)
    if refused > _MOST_REFUSED_SHOWN:
        ERR.print(f"  left out: {refused - _MOST_REFUSED_SHOWN} more files", markup=False)


def _kind(text: str) -> RequestKind:
    try:
        return RequestKind(text)
    except ValueError:
        fail(f"--asked-by takes one of {', '.join(RequestKind)}.")


def _order(path: Path) -> Order:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_ORDER_BYTES)
    except OSError as error:
        fail(f"{path} cannot be read ({type(error).__name__}).")
    segments = b"\r".join(raw.translate(None, b"\x0b\x1c").splitlines()) + b"\r"
    parsed = parse_order_message(segments)
    if not isinstance(parsed, ParsedOrderMessage):
        fail(f"{path} holds no order:", *(str(fault) for fault in parsed.faults))
    return parsed.orders[0]


def _moment(text: str, option: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} must be a date or time as 2026-01-31 or 2026-01-31T17:30+01:00 (UTC without a zone).")
    try:
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        fail(f"{option} is outside of what a calendar holds.")


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a server may be reading the file."""
    try:
        beside = path.with_name(f"{path.name}.part")
        beside.write_bytes(content)
        beside.replace(path)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be written ({type(error).__name__}).", status=1)


def _confusions(tested: Iterable[tuple[str, str, float]]) -> list[tuple[str, str, int]]:
    counts: dict[tuple[str, str], int] = {}
    for label, said, _ in tested:
        if said and said != label:
            counts[label, said] = counts.get((label, said), 0) + 1
    worst = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:10]
    return [(label, said, number) for (label, said), number in worst]


def _study_json(one: GatheredStudy, found: Sequence[RuleExplanation]) -> dict[str, Any]:
    return {
        "study_instance_uid": one.study.study_instance_uid,
        "explanations": [json.loads(to_json(explanation)) for explanation in found],
    }


def _replay_lines(one: StudyReplay) -> Iterator[str]:
    yield f"Study {one.study_instance_uid}, received {one.received_at:%Y-%m-%d %H:%M}Z"
    for difference in one.differences:
        yield f"  rule {difference.rule}: {_verdict(difference.before)} -> {_verdict(difference.after)}"
        yield from (f"    {line}" for line in _changes(difference))


def _changes(difference: RuleDifference) -> Iterator[str]:
    before, after = difference.before, difference.after
    if after is not None:
        yield from (f"because {reason}" for reason in reasons(after))
    if before is None or after is None or before.verdict is not after.verdict:
        return
    old = {one.name: one for one in before.requirements}
    for new in after.requirements:
        was = old.get(new.name)
        if was is not None and (was.selected, was.selected_images) != (new.selected, new.selected_images):
            yield f"input {new.name}: {_chosen(was)} -> {_chosen(new)}"
    if before.app != after.app:
        yield f"app {before.app} -> {after.app}"


def _chosen(requirement: Any) -> str:
    return ", ".join(requirement.selected_images or requirement.selected) or "nothing"


def _verdict(explanation: RuleExplanation | None) -> str:
    return "not in the rules" if explanation is None else explanation.verdict.value


def _replay_json(one: StudyReplay) -> dict[str, Any]:
    return {
        "study_instance_uid": one.study_instance_uid,
        "received_at": one.received_at.isoformat(),
        "version_before": one.version_before,
        "version_after": one.version_after,
        "differences": [
            {
                "rule": difference.rule,
                "before": json.loads(to_json(difference.before)) if difference.before else None,
                "after": json.loads(to_json(difference.after)) if difference.after else None,
            }
            for difference in one.differences
        ],
    }
