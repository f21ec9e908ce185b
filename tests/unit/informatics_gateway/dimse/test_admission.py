# SPDX-License-Identifier: Apache-2.0
"""Who may have an association: each reason, and each way past it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from informatics_gateway.dimse.admission import Admission, Caller, Rejection

LAN = ip_network("10.0.0.0/8")
LOCAL = ip_network("127.0.0.0/8")
ONE = Admission(called=frozenset({"AIRWAY", "AIRWAY2"}))
KNOWN = Admission(
    callers={"CT1": Caller(sources=(LAN,), most_associations=2), "MR1": Caller()}, only_callers=True
)
BOUND = Admission(callers={"CT1": Caller(most_associations=3)}, most_of_one=1)


@pytest.mark.parametrize(
    ("admission", "called", "calling", "address", "already_open", "rejection"),
    [
        pytest.param(Admission(), "ANY", "ANY", "1.2.3.4", 999, None, id="anybody"),
        pytest.param(ONE, "AIRWAY", "CT1", "1.2.3.4", 0, None, id="our-title"),
        pytest.param(ONE, "AIRWAY2", "CT1", "1.2.3.4", 0, None, id="our-other-title"),
        pytest.param(ONE, "airway", "CT1", "1.2.3.4", 0, Rejection.CALLED_AE_TITLE, id="not-our-title"),
        pytest.param(KNOWN, "X", "MR1", "1.2.3.4", 9, None, id="listed"),
        pytest.param(KNOWN, "X", "US1", "1.2.3.4", 0, Rejection.CALLING_AE_TITLE, id="not-listed"),
        pytest.param(KNOWN, "X", "CT1", "10.9.8.7", 1, None, id="from-its-network"),
        pytest.param(KNOWN, "X", "CT1", "::ffff:10.9.8.7", 1, None, id="from-its-network-mapped"),
        pytest.param(KNOWN, "X", "CT1", "11.9.8.7", 0, Rejection.CALLING_AE_TITLE, id="from-elsewhere"),
        pytest.param(KNOWN, "X", "CT1", "10.9.8.7", 2, Rejection.LIMIT, id="one-too-many"),
        pytest.param(BOUND, "X", "MR1", "1.2.3.4", 1, Rejection.LIMIT, id="bound-of-all"),
        pytest.param(BOUND, "X", "CT1", "1.2.3.4", 2, None, id="its-own-bound"),
    ],
)
def test_rejections(
    admission: Admission,
    called: str,
    calling: str,
    address: str,
    already_open: int,
    rejection: Rejection | None,
) -> None:
    assert (
        admission.rejection(called=called, calling=calling, address=address, already_open=already_open)
        is rejection
    )


@pytest.mark.parametrize(
    ("sources", "address", "taken"),
    [
        ((), "1.2.3.4", True),
        ((LAN, LOCAL), "127.0.0.1", True),
        ((LAN,), "127.0.0.1", False),
        ((ip_network("fe80::/10"),), "fe80::1%eth0", True),
        ((LAN,), "no address", False),
    ],
)
def test_connections_are_taken_by_source(sources: tuple[object, ...], address: str, taken: bool) -> None:
    assert Admission(sources=sources).takes_connection(address) is taken  # type: ignore[arg-type]
