# SPDX-License-Identifier: Apache-2.0
"""Where event channels are looked for, and that nobody can send us elsewhere."""

from __future__ import annotations

import pytest

from ai_apps.ups_rs.channel import channel_urls


def test_the_places_where_servers_have_their_channel() -> None:
    assert channel_urls("http://h:8080/arc/aets/X/rs/", "MY AE") == (
        "ws://h:8080/arc/aets/X/rs/ws/subscribers/MY%20AE",
        "ws://h:8080/arc/aets/X/rs/subscribers/MY%20AE",
        "ws://h:8080/arc/aets/X/ws/subscribers/MY%20AE",
        "ws://h:8080/ws/subscribers/MY%20AE",
        "ws://h:8080/subscribers/MY%20AE",
    )


@pytest.mark.parametrize(
    ("base", "told", "used"),
    [
        ("http://h:8080/dicom-web", "ws://h:8080/any/place?x=1", "ws://h:8080/any/place?x=1"),
        ("http://h:8080/dicom-web", "ws://h:9000/channel", "ws://h:9000/channel"),
        ("http://h:8080/dicom-web", "/ws/A", "ws://h:8080/ws/A"),
        ("https://h/dicom-web", "wss://h/ws/A", "wss://h/ws/A"),
        ("https://h/dicom-web", "ws://h:8080/ws/A", "wss://h/ws/A"),
        ("https://h/dicom-web", "wss://inside.example:9/ws/A", "wss://h/ws/A"),
        ("https://h/dicom-web", "file:///etc/passwd", "wss://h/etc/passwd"),
        ("http://h:1/dicom-web", "ws://evil.example/ws/A#f", "ws://h:1/ws/A"),
    ],
    ids=[
        "as told",
        "another port",
        "relative",
        "secure",
        "never less secure",
        "host of the proxy",
        "scheme",
        "host",
    ],
)
def test_an_address_told_leads_to_the_host_of_the_service_only(base: str, told: str, used: str) -> None:
    assert channel_urls(base, "A", given=told, guess=False) == (used,)
