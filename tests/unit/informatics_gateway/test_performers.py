# SPDX-License-Identifier: Apache-2.0
"""From configured performers, reviews and archives to what dispatch works with."""

from __future__ import annotations

from typing import Any

import pytest

from informatics_gateway.performers import (
    heartbeat_s,
    make_archives,
    make_offers,
    make_push_clients,
    make_verifications,
)
from informatics_gateway.settings import Settings
from profiles.codes import Code
from task_manager.dispatch.model import PerformerOffer, Style, Verification
from task_manager.errors import ConfigurationError


def settings(**given: Any) -> Settings:
    return Settings.model_validate(given)


def test_performers_keep_their_order_and_all_that_is_said_of_them() -> None:
    made = make_offers(
        settings(
            manager={
                "performers": [
                    {"ae_title": "ONE", "apps": ["lung-ct"], "capacity": 2},
                    {"ae_title": "FAR", "style": "push", "url": "http://far.test/rs"},
                    {"ae_title": "ANY", "by_name": False, "station_class": "GPU", "organization": "Unit"},
                ]
            }
        )
    )

    assert made == (
        PerformerOffer(ae_title="ONE", apps=("lung-ct",), capacity=2),
        PerformerOffer(ae_title="FAR", style=Style.PUSH, url="http://far.test/rs"),
        PerformerOffer(ae_title="ANY", by_name=False, station_class="GPU", organization="Unit"),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, 60.0, id="defaults"),
        pytest.param({"manager": {"leases": {"silence_s": 30}}}, 10.0, id="site"),
        pytest.param({"apps": {"lung-ct": {"leases": {"silence_s": 3}}, "b": {}}}, 1.0, id="one-app"),
    ],
)
def test_the_local_performer_is_heard_within_the_silence_of_the_site(
    given: dict[str, Any], expected: float
) -> None:
    assert heartbeat_s(settings(**given)) == expected


def test_only_apps_whose_results_are_verified_have_a_verification() -> None:
    made = make_verifications(
        settings(apps={"lung-ct": {"verification": {"organization": "Readers"}}, "brain": {"leases": {}}})
    )

    assert made == {
        "lung-ct": Verification(code=Code("110007", "DCM", "Report Verification"), organization="Readers")
    }


def test_push_performers_have_clients() -> None:
    far = {"ae_title": "FAR", "style": "push", "url": "http://127.0.0.1:9/rs"}
    made = make_push_clients(settings(manager={"performers": [{"ae_title": "ONE"}, far]}))

    assert list(made) == ["FAR"]
    for client in made.values():
        client.close()


def test_archives_are_asked_by_either_way() -> None:
    made = make_archives(
        settings(
            gateway={"peers": [{"ae_title": "PACS1", "host": "127.0.0.1", "port": 104}]},
            manager={
                "readiness": {
                    "archives": [
                        {"name": "vna", "url": "http://127.0.0.1:9/rs/", "ae_title": "VNA"},
                        {"name": "pacs", "ae_title": "PACS1"},
                    ]
                }
            },
        )
    )

    assert [(one.name, one.url, one.ae_title) for one in made] == [
        ("vna", "http://127.0.0.1:9/rs", "VNA"),
        ("pacs", "", "PACS1"),
    ]


@pytest.mark.parametrize(
    ("manager", "path"),
    [
        pytest.param(
            {"performers": [{"ae_title": "FAR", "style": "push"}]}, "manager.performers[0].url", id="no-url"
        ),
        pytest.param(
            {"performers": [{"ae_title": "A"}, {"ae_title": "FAR", "style": "push", "url": "ftp://far"}]},
            "manager.performers[1].url",
            id="no-web-address",
        ),
        pytest.param(
            {"readiness": {"archives": [{"name": "pacs", "ae_title": "NOBODY"}]}},
            "manager.readiness.archives[0].ae_title",
            id="unknown-peer",
        ),
        pytest.param(
            {"readiness": {"archives": [{"name": "vna", "url": "http://u:p@vna.test"}]}},
            "manager.readiness.archives[0].url",
            id="password-in-the-address",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(manager: dict[str, Any], path: str) -> None:
    configured = settings(manager=manager)
    make = make_archives if "readiness" in manager else make_push_clients

    with pytest.raises(ConfigurationError) as raised:
        make(configured)

    assert [fault.path for fault in raised.value.faults] == [path]
