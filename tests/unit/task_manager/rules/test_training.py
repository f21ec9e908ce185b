# SPDX-License-Identifier: Apache-2.0
"""The series classifier: trained from a table, run by onnxruntime, asked in rules, silent when not sure."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from profiles.dicom_json import element, merged
from task_manager.errors import ConfigurationError, InputError
from task_manager.rules.boosting import Boosting, Node, Tree, grow_forest, softmax
from task_manager.rules.evaluate import evaluate
from task_manager.rules.explain import render
from task_manager.rules.learned import Feature, FeatureKind, load_classifier, open_classifier, words_of
from task_manager.rules.model import Verdict
from task_manager.rules.onnx_graph import check_graph
from task_manager.rules.onnx_trees import onnx_model
from task_manager.rules.parse import load_rules
from task_manager.rules.training import LabelledTable, features_of, read_table, train
from tests.unit.task_manager.rules.studies import series, study

QUICK = Boosting(rounds=15)


def table_text(rows: int = 120, seed: int = 7) -> str:
    """Headers of brain MR whose times and words tell T1, T2 and FLAIR apart; some are missing."""
    chance = random.Random(seed)
    lines = ["label,group,SeriesDescription,EchoTime,RepetitionTime,InversionTime,ImageType"]
    for number in range(rows):
        label = ("T1", "T2", "FLAIR")[number % 3]
        echo = {"T1": 3, "T2": 90, "FLAIR": 120}[label] + chance.uniform(-2, 2)
        repetition = {"T1": 600, "T2": 4000, "FLAIR": 9000}[label] * chance.uniform(0.9, 1.1)
        inversion = "2500" if label == "FLAIR" else ""
        words = chance.choice(["AX BRAIN", "BRAIN", f"AX {label}", f"{label} tra"])
        told = "" if chance.random() < 0.1 else f"{echo:.1f}"
        lines.append(f"{label},p{number // 2},{words},{told},{repetition:.0f},{inversion},ORIGINAL\\PRIMARY")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def table() -> LabelledTable:
    return read_table(table_text(), "t.csv")


@pytest.fixture(scope="module")
def model(table: LabelledTable) -> bytes:
    return train(table, QUICK).model


def test_a_classifier_tells_rows_it_has_not_seen(table: LabelledTable) -> None:
    trained = train(table, QUICK)
    answered, right = trained.share_right(0.5)
    assert answered > 0.95
    assert right > 0.95
    assert trained.labels == ("FLAIR", "T1", "T2")
    assert len(trained.tested) == 120
    assert all(said for _, said, _ in trained.tested)


def test_the_same_table_gives_the_same_bytes(table: LabelledTable, model: bytes) -> None:
    assert train(table, QUICK).model == model


def test_what_is_made_of_columns(table: LabelledTable) -> None:
    made = {(feature.attribute, feature.kind, feature.word) for feature in features_of(table)}
    assert ("EchoTime", FeatureKind.NUMBER, "") in made
    assert ("EchoTime", FeatureKind.EXISTS, "") in made
    assert ("RepetitionTime", FeatureKind.NUMBER, "") in made
    assert ("RepetitionTime", FeatureKind.EXISTS, "") not in made
    assert ("SeriesDescription", FeatureKind.WORD, "flair") in made
    assert not any(name == "ImageType" for name, _, _ in made)  # the same everywhere


def _walk(tree: Tree, row: np.ndarray) -> float:
    node: Node = tree[0]
    while not node.is_leaf:
        value = np.float32(row[node.feature])
        left = node.missing_left if np.isnan(value) else value <= node.threshold
        node = tree[node.left if left else node.right]
    return node.weight


@pytest.mark.parametrize("classes", [2, 4])
def test_onnxruntime_says_what_the_trees_say(classes: int) -> None:
    chance = np.random.default_rng(3)
    rows = chance.normal(size=(200, 6))
    rows[chance.random(rows.shape) < 0.15] = np.nan
    wanted = (np.nan_to_num(rows[:, 0], nan=1) > 0).astype(np.int64)
    if classes == 4:
        wanted += 2 * (np.nan_to_num(rows[:, 1]) > 0.5)
    forest = grow_forest(rows, wanted, classes, QUICK)
    features = [Feature(attribute="EchoTime", kind=FeatureKind.NUMBER)] * 6
    labels = [str(number) for number in range(classes)]
    said = load_classifier(onnx_model(forest, features, labels)).classify_rows(rows.astype(np.float32))
    scores = np.array(
        [
            [
                forest.base[number] + sum(_walk(tree, row) for of, tree in forest.trees if of == number)
                for number in range(classes)
            ]
            for row in rows
        ]
    )
    chances = softmax(scores)
    assert [label for label, _ in said] == [str(at) for at in chances.argmax(axis=1)]
    # float32 sums in another order
    assert np.allclose([at for _, at in said], chances.max(axis=1), atol=1e-5)
    assert np.mean([int(label) == at for (label, _), at in zip(said, wanted, strict=True)]) > 0.97


def _rules(folder: Path, model: bytes, confidence: float) -> Path:
    (folder / "series.onnx").write_bytes(model)
    path = folder / "rules.yaml"
    path.write_text(
        f"classifier: {{model: series.onnx, confidence: {confidence}}}\n"
        "rules:\n"
        "  - name: r\n"
        "    app: a\n"
        "    series:\n"
        "      - name: t1\n"
        "        where:\n"
        "          first_known:\n"
        "            - learned.class: T1\n"
        "            - SeriesDescription: {like: '*T1*'}\n",
        encoding="utf-8",
    )
    return path


T1 = merged(
    [
        element("SeriesDescription", "BRAIN"),
        element("EchoTime", 3.1),
        element("RepetitionTime", 610.0),
        element("ImageType", "ORIGINAL", "PRIMARY"),
    ]
)
LOOKS_LIKE_T2 = merged([T1, element("EchoTime", 91.0), element("RepetitionTime", 4100.0)])
SAYS_T1 = merged([LOOKS_LIKE_T2, element("SeriesDescription", "SAYS T1")])


@pytest.mark.parametrize(
    ("attributes", "confidence", "verdict", "note"),
    [
        (T1, 0.6, Verdict.TRUE, "classifier, "),
        (LOOKS_LIKE_T2, 0.6, Verdict.FALSE, "classifier, "),
        (SAYS_T1, 1.0, Verdict.TRUE, "the classifier is not sure: "),
        (LOOKS_LIKE_T2, 1.0, Verdict.FALSE, "the classifier is not sure: "),
    ],
    ids=["sure", "sure it is not", "by rule", "by rule it is not"],
)
def test_rules_ask_the_classifier_and_do_without_it(
    model: bytes,
    tmp_path: Path,
    attributes: dict[str, object],
    confidence: float,
    verdict: Verdict,
    note: str,
) -> None:
    rules = load_rules(_rules(tmp_path, model, confidence))
    (one,) = evaluate(rules, study(series(attributes=attributes)), None)
    asked = one.requirements[0].series[0].where.parts[0]
    assert asked.verdict is verdict, render([one])
    assert asked.parts[0].note.startswith(note)


def test_another_model_is_another_version(model: bytes, table: LabelledTable, tmp_path: Path) -> None:
    first = load_rules(_rules(tmp_path, model, 0.6)).version
    other = train(table, Boosting(rounds=3)).model
    assert load_rules(_rules(tmp_path, other, 0.6)).version != first


@pytest.mark.parametrize(
    "content", [b"", b"\x08\x08", b"ONNX", bytes(range(256)) * 40], ids=["empty", "header", "text", "noise"]
)
def test_what_is_no_model_is_a_fault_with_its_place(content: bytes, tmp_path: Path) -> None:
    path = _rules(tmp_path, content, 0.5)
    with pytest.raises(ConfigurationError, match=r"rules\.yaml:1 classifier\.model: no usable classifier"):
        load_rules(path)


def test_a_cut_model_is_refused(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    for size in (len(model) // 2, len(model) - 3):
        path.write_bytes(model[:size])
        with pytest.raises(ValueError, match="was not written by"):
            open_classifier(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param(b"\x3a\x02\x2a\x00", "one graph", id="second-graph"),
        pytest.param(b"\xca\x01\x00", "functions", id="functions"),
        pytest.param(b"\x3a\x7f", "does not end", id="cut-field"),
        pytest.param(b"\xff" * 11, "number does not end", id="endless-number"),
        pytest.param(b"\x3b", "no known kind", id="group"),
    ],
)
def test_what_is_not_one_tree_ensemble_is_not_run(model: bytes, more: bytes, said: str) -> None:
    check_graph(model)
    with pytest.raises(ValueError, match=said):
        check_graph(model + more)
    with pytest.raises(ValueError, match="was not written by"):
        load_classifier(model + more)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        pytest.param(b"\x0a\x06\x22\x04Loop", "one tree ensemble", id="loop"),
        pytest.param(b"", "one tree ensemble", id="no-operator"),
        pytest.param(b"\x2a\x00", "tensors", id="tensor"),
        pytest.param(b"\x0a\x17\x22\x15TreeEnsembleRegressor" * 2, "one tree ensemble", id="two-operators"),
    ],
)
def test_a_graph_of_anything_else_is_not_run(graph: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_graph(b"\x3a" + bytes([len(graph)]) + graph)


def test_a_model_that_asks_who_a_patient_is_is_refused(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "who.onnx"
    path.write_bytes(model.replace(b'"InversionTime"', b'"PatientWeight"'))
    with pytest.raises(ValueError, match="must not learn it"):
        open_classifier(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no column 'label'"),
        ("label\nA\nA\nB\nB\n", "no column but the label"),
        ("label,PatientID\nA,1\nA,1\nB,2\nB,2\n", "PatientID tells who or which"),
        ("label,SeriesInstanceUID\nA,1\nA,1\nB,2\nB,2\n", "tells who or which"),
        ("label,order.Reason\nA,1\nA,1\nB,2\nB,2\n", "tells who or which"),
        ("label,EchoTme\nA,1\nA,1\nB,2\nB,2\n", "did you mean EchoTime?"),
        ("label,EchoTime,EchoTime\nA,1,1\nA,1,1\nB,2,2\nB,2,2\n", "given twice"),
        ("label,EchoTime\nA,1\nA\nB,2\nB,2\n", "t.csv:3: has 1 cells, not 2"),
        ("label,EchoTime\nA,1\n,1\nB,2\nB,2\n", "t.csv:3 label: is empty"),
        ("label,EchoTime\nA,1\nA,1\n", "1 different labels"),
        ("label,EchoTime\nA,1\nB,1\nB,1\n", "'A' has fewer than 2 rows"),
        ('label,EchoTime\nA,"1\n' + "x" * 200_000, "no valid CSV"),
    ],
)  # fmt: skip
def test_faults_of_tables(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_table(text, "t.csv")
    assert any(said in str(fault) for fault in caught.value.faults), caught.value.faults


def test_a_table_that_holds_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no number and no word"):
        train(read_table("label,EchoTime\nA,\nA,\nB,\nB,\n", "t.csv"), QUICK)


def test_words() -> None:
    assert words_of(["Ax T1-FLAIR+C", "3mm"]) == {"ax", "t", "1", "flair", "c", "3", "mm"}


LOAD = "import sys; from pathlib import Path; from task_manager.rules.learned import open_classifier; "


def test_running_it_leaves_nothing_in_the_home_folder(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model" / "series.onnx"
    path.parent.mkdir()
    path.write_bytes(model)
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    code = f"{LOAD} open_classifier(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment, timeout=120)
    assert [found for found in home.rglob("*") if found.is_file()] == []
