# SPDX-License-Identifier: Apache-2.0
"""Which addresses may be posted to."""

from __future__ import annotations

import pytest

from informatics_gateway.events.http_post import Reach, may_be_reached, url_faults

NOWHERE: tuple[Reach, ...] = ()
HERE = (Reach.ANY,)
HOUSE = (Reach.PRIVATE, Reach.ANY)
WORLD = (Reach.PUBLIC, Reach.PRIVATE, Reach.ANY)


@pytest.mark.parametrize(
    ("address", "reaches"),
    [
        ("93.184.215.14", WORLD),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", WORLD),
        ("10.1.2.3", HOUSE),
        ("192.168.1.1", HOUSE),
        ("172.16.0.1", HOUSE),
        ("100.64.0.1", HOUSE),
        ("fd00::1", HOUSE),
        ("127.0.0.1", HERE),
        ("127.8.8.8", HERE),
        ("::1", HERE),
        ("::ffff:127.0.0.1", HERE),
        ("::ffff:10.0.0.1", HOUSE),
        ("64:ff9b::7f00:1", HERE),
        ("2002:7f00:1::", HERE),
        ("::7f00:1", HERE),
        ("64:ff9b:1::a9fe:a9fe", NOWHERE),
        ("fd00:ec2::254", NOWHERE),
        ("fd00:ec2::253", HOUSE),
        ("169.254.169.254", NOWHERE),
        ("::ffff:169.254.169.254", NOWHERE),
        ("fe80::1", NOWHERE),
        ("fe80::1%eth0", NOWHERE),
        ("0.0.0.0", NOWHERE),
        ("::", NOWHERE),
        ("224.0.0.1", NOWHERE),
        ("ff02::1", NOWHERE),
        ("240.0.0.1", NOWHERE),
        ("255.255.255.255", NOWHERE),
    ],
)
def test_reach(address: str, reaches: tuple[Reach, ...]) -> None:
    assert tuple(reach for reach in Reach if may_be_reached(address, reach)) == reaches


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://hook.example/in?site=1", True),
        ("http://127.0.0.1:8000", True),
        ("https://[::1]:8443/x", True),
        ("", False),
        ("hook.example", False),
        ("ftp://hook.example/", False),
        ("https:///x", False),
        ("https://user:key@hook.example/", False),
        ("https://hook.example/#x", False),
        ("https://hook.example:99999/", False),
        ("https://hook.example:0/", False),
        ("https://hook.example/a b", False),
        ("https://hook.example/\r\nX: 1", False),
        ("https://hook.example/ä", False),
        ("https://[::1", False),
    ],
)
def test_urls(url: str, good: bool) -> None:
    assert (not url_faults(url)) is good
