# SPDX-License-Identifier: Apache-2.0
"""Addresses and messages of the event channel; how it behaves on a socket is tested on one."""

from __future__ import annotations

import orjson
import pytest

from informatics_gateway.dicomweb.event_channel import channel_url, event_message
from profiles.ups.states import GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Notice
from task_manager.store.journal import going_down


@pytest.mark.parametrize(
    ("base", "receiving_ae", "expected"),
    [
        ("http://127.0.0.1:8080/dicom-web", "WATCHER", "ws://127.0.0.1:8080/dicom-web/subscribers/WATCHER"),
        ("https://airway.test/dicom-web/", "WATCHER", "wss://airway.test/dicom-web/subscribers/WATCHER"),
        ("HTTPS://airway.test", "A B/C?", "wss://airway.test/subscribers/A%20B%2FC%3F"),
        ("http://[::1]:8080/dicom-web", " W ", "ws://[::1]:8080/dicom-web/subscribers/W"),
    ],
    ids=["plain", "secure", "escaped", "IPv6"],
)
def test_the_address_of_a_channel(base: str, receiving_ae: str, expected: str) -> None:
    assert channel_url(base, receiving_ae) == expected


@pytest.mark.parametrize(
    ("content", "information"),
    [
        ("{}", {}),
        (
            '{"00741000":{"vr":"CS","Value":["CANCELED"]}}',
            {"00741000": {"vr": "CS", "Value": ["CANCELED"]}},
        ),
    ],
    ids=["no information", "information"],
)
def test_a_message_is_the_addressing_and_the_information(content: str, information: object) -> None:
    notice = Notice(
        number=7, workitem_uid="2.25.1", event_type=1, content=content, receiving_aes=frozenset({"W"})
    )

    assert orjson.loads(event_message(notice, 65535)) == {
        "00000002": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.34.6.1"]},
        "00000110": {"vr": "US", "Value": [65535]},
        "00001000": {"vr": "UI", "Value": ["2.25.1"]},
        "00001002": {"vr": "US", "Value": [1]},
        **information,  # type: ignore[dict-item]
    }


def test_event_4_is_about_the_global_subscription() -> None:
    message = orjson.loads(event_message(going_down(frozenset({"W"})), 1))

    assert message["00001000"]["Value"] == [GLOBAL_SUBSCRIPTION_UID]
    assert [message[tag]["Value"] for tag in ("00741242", "00741244", "00741246")] == [
        ["GOING DOWN"],
        ["WARM START"],
        ["WARM START"],
    ]
