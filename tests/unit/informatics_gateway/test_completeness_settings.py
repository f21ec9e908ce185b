# SPDX-License-Identifier: Apache-2.0
"""What completes a study, from the configuration to the policies; every fault with file and key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from informatics_gateway.completeness_settings import completeness_policies
from informatics_gateway.configuration import load_settings
from task_manager.errors import ConfigurationError
from task_manager.study.completeness import Fallback, Need
from task_manager.study.model import Evidence

WHOLE = """
manager: {readiness: {archives: [{name: PACS, url: "http://127.0.0.1:8042/dicom-web"}]}}
study:
  quiet_period_s: 45
  completeness: {evidence: [order, archive], need: all, archives: [PACS], at_most_s: 600}
  sources:
    - {calling: ["CT*"], doors: [dicom], evidence: [mpps], fallback: none}
    - {called: [FAST], quiet_period_s: 5, evidence: []}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "airway.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_sources_take_from_the_usual_what_they_do_not_set(tmp_path: Path) -> None:
    study = load_settings(written(tmp_path, WHOLE)).study

    policies = completeness_policies(study.quiet_period_s, study.completeness, study.sources)

    usual, (scanner, fast) = policies.usual, policies.sources
    assert (usual.evidence, usual.need) == ((Evidence.ORDER, Evidence.ARCHIVE), Need.ALL)
    assert (usual.quiet, usual.bound) == (timedelta(seconds=45), timedelta(minutes=10))
    assert (scanner.policy.evidence, scanner.policy.fallback) == ((Evidence.MPPS,), Fallback.NONE)
    assert (scanner.policy.quiet, scanner.policy.archives) == (timedelta(seconds=45), ("PACS",))
    assert (fast.policy.evidence, fast.policy.quiet, fast.called) == ((), timedelta(seconds=5), ("FAST",))


def test_without_settings_a_performed_procedure_step_counts() -> None:
    study = load_settings(None).study

    policies = completeness_policies(study.quiet_period_s, study.completeness, study.sources)

    assert policies.usual.evidence == (Evidence.MPPS,)
    assert policies.pause("dicom:CT1").quiet == timedelta(seconds=2)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param(
            "study:\n  completeness:\n    evidence: [smell]\n",
            "airway.yaml:3 study.completeness.evidence.0",
            id="no-such-evidence",
        ),
        pytest.param(
            "study:\n  completeness: {settle_s: 0}\n",
            "airway.yaml:2 study.completeness.settle_s",
            id="no-time",
        ),
        pytest.param(
            "study:\n  sources:\n    - {calling: CT1}\n",
            "airway.yaml:3 study.sources.0.calling",
            id="no-list",
        ),
        pytest.param(
            "study: {completeness: {evidence: [archive]}}\n",
            "airway.yaml study.completeness.evidence",
            id="no-archive-is-configured",
        ),
        pytest.param(
            "study: {sources: [{archives: [OTHER]}]}\n",
            "airway.yaml study.sources[0].archives",
            id="another-archive",
        ),
    ],
)
def test_faults_name_file_and_key(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(written(tmp_path, text))

    assert [fault.path.removeprefix(f"{tmp_path}/") for fault in refused.value.faults] == [where]
