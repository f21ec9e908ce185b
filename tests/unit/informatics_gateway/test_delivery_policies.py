# SPDX-License-Identifier: Apache-2.0
"""Destinations from YAML to how they are served, and every fault of theirs with its file, line and key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from informatics_gateway.configuration import load_settings
from informatics_gateway.delivery_policies import delivery_policies
from task_manager.delivery.breaker import BreakerPolicy
from task_manager.delivery.policy import Commitment, CommitmentPolicy, DeliveryPolicy
from task_manager.errors import ConfigurationError
from task_manager.outbox import RetryPolicy

PACS = """
destinations:
  - name: pacs
    kind: dicom
    host: pacs.example
    port: 104
    ae_title: PACS
"""
FULL = """
    commitment: required
    parallel: 4
    rate: {per_second: 20, per_minute: 300, burst: 5}
    retry: {first_s: 2, most_s: 60, jitter: 0, give_up_h: 48}
    breaker: {failures: 3, pause_s: 10, most_pause_s: 100}
    filter:
      apps: [lung-ct]
      when:
        order.Priority: HIGH
"""


def written(folder: Path, airway: str, destinations: str = "") -> Path:
    config = folder / "airway.yaml"
    config.write_text(airway or "{}\n", encoding="utf-8")
    if destinations:
        (folder / "destinations.yaml").write_text(destinations, encoding="utf-8")
    return config


def test_everything_that_can_be_set(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "", PACS.rstrip("\n") + FULL))
    [policy] = delivery_policies(settings)
    assert policy.results.apps == ("lung-ct",)
    assert policy.results.when is not None
    assert DeliveryPolicy(**{**_plain(policy), "results": DeliveryPolicy(name="").results}) == DeliveryPolicy(
        name="pacs",
        parallel=4,
        interval_s=0.2,
        burst=5,
        retry=RetryPolicy(first=timedelta(seconds=2), most=timedelta(seconds=60)),
        give_up=timedelta(hours=48),
        breaker=BreakerPolicy(
            failures=3,
            pause=RetryPolicy(first=timedelta(seconds=10), most=timedelta(seconds=100), jitter=0.1),
        ),
        commitment=CommitmentPolicy(mode=Commitment.REQUIRED, timeout=timedelta(minutes=10), rounds=3),
    )


def test_what_is_not_set(tmp_path: Path) -> None:
    [policy] = delivery_policies(load_settings(written(tmp_path, PACS)))
    assert (policy.parallel, policy.interval_s, policy.give_up) == (1, 0.0, None)
    assert policy.commitment.mode is Commitment.OFF
    assert policy.retry == RetryPolicy(first=timedelta(seconds=1), most=timedelta(minutes=5), jitter=0.2)


@pytest.mark.parametrize(
    ("airway", "beside", "places"),
    [
        pytest.param(
            "", PACS + "    parallel: 0\n", ["destinations.yaml:8 destinations.0.parallel"], id="beside"
        ),
        pytest.param(
            PACS,
            PACS.replace("name: pacs", "name: other") + "    rate: {per_second: fast}\n",
            ["destinations.yaml:8 destinations.1.rate.per_second"],
            id="the second, in the other file",
        ),
        pytest.param(
            PACS + "    commitment: sometimes\n",
            "",
            ["airway.yaml:8 destinations.0.commitment.mode"],
            id="no mode",
        ),
        pytest.param(
            PACS + "    filter:\n      when:\n        Modality: CT\n        Modalty: CT\n",
            "",
            ["airway.yaml:11 destinations[0].filter.when.Modalty"],
            id="condition",
        ),
        pytest.param(
            "",
            PACS + "    filter:\n      objects: {SOPClassUID: {regex: '('}}\n",
            ["destinations.yaml:9 destinations[0].filter.objects.SOPClassUID.regex"],
            id="condition beside",
        ),
        pytest.param(
            "", PACS + "    filter: {aps: [x]}\n", ["destinations.yaml:8 destinations.0.filter.aps"], id="key"
        ),
        pytest.param("", "study: {}\n" + PACS, ["destinations.yaml:1 study"], id="what belongs elsewhere"),
    ],
)
def test_faults(tmp_path: Path, airway: str, beside: str, places: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(written(tmp_path, airway, beside))
    told = [str(fault) for fault in caught.value.faults]
    for place in places:
        assert any(place in one for one in told), told


def _plain(policy: DeliveryPolicy) -> dict[str, object]:
    return {name: getattr(policy, name) for name in policy.__slots__}
