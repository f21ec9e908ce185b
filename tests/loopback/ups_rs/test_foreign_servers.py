# SPDX-License-Identifier: Apache-2.0
"""The event stream against servers that do things their own way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.errors import ForbiddenError, NoEventChannelError
from ai_apps.ups_rs.events import NO_RESYNC, Resynchronized, UpsEvent
from ai_apps.ups_rs.stream import EventStream
from profiles.dicom_json import element, text
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from tests.loopback.ups_rs.foreign import Foreign, serving

WAIT_S = 20.0
UID = "2.25.9"


def report(state: str, *, event_class: str = "1.2.840.10008.5.1.4.34.6.4") -> dict[str, Any]:
    """A state report as the example of PS3.18 11.13 prints it, wrong VRs and all."""
    return {
        "00000002": {"vr": "UI", "Value": [event_class]},
        "00000110": {"vr": "US", "Value": [1]},
        "00001000": {"vr": "UI", "Value": [UID]},
        "00001002": {"vr": "US", "Value": [1]},
        "00404041": {"vr": "US", "Value": ["READY"]},
        "00741000": {"vr": "LT", "Value": [state]},
    }


def next_event(stream: EventStream) -> UpsEvent:
    while True:
        value = stream.receive(WAIT_S)
        assert value is not None
        if isinstance(value, UpsEvent):
            return value


@pytest.mark.parametrize(
    ("channel", "announced"),
    [
        ("/rs/ws/subscribers/{ae}", {}),
        ("/rs/subscribers/{ae}", {}),
        ("/ws/subscribers/{ae}", {}),
        ("/subscribers/{ae}", {}),
        ("/odd/{ae}", {"Content-Location": "ws://127.0.0.1:{port}/odd/ME"}),
        ("/odd/{ae}", {"Location": "ws://127.0.0.1:{port}/odd/ME"}),
        ("/odd/{ae}", {"Content-Location": "/odd/ME"}),
        ("/odd/{ae}", {"Content-Location": "ws://archive.internal:11112/odd/ME"}),
    ],
    ids=[
        "2019a",
        "2026",
        "beside the service",
        "at the root",
        "announced",
        "in Location",
        "relative",
        "behind a proxy",
    ],
)
def test_the_channel_is_found(channel: str, announced: Mapping[str, str]) -> None:
    message = json.dumps(report("IN PROGRESS"))
    with serving(Foreign(channel=channel, announced=announced, visits=((message,),))) as foreign:
        with UpsRsClient(foreign.base_url) as client, client.events("ME") as stream:
            assert next_event(stream).state == "IN PROGRESS"
    assert [path.rpartition("/")[2] for path, _ in foreign.opened] == ["ME"]
    assert foreign.subscribed == [f"{GLOBAL_SUBSCRIPTION_UID} ME"]


def test_forms_of_messages_and_what_is_no_message() -> None:
    one, other = report("IN PROGRESS"), report("COMPLETED")
    visit = (
        json.dumps([one, other]),
        json.dumps(one).encode(),
        "hello",
        "",
        "[" * 5000,
        "{}",
        json.dumps(other),
    )
    with serving(Foreign(channel="/rs/subscribers/{ae}", visits=(visit,))) as foreign:
        with UpsRsClient(foreign.base_url) as client, client.events("ME") as stream:
            states = [next_event(stream).state for _ in range(4)]
            assert states == ["IN PROGRESS", "COMPLETED", "IN PROGRESS", "COMPLETED"]
            assert stream.skipped == 4


def test_a_message_without_end_ends_the_connection_only() -> None:
    large = json.dumps({"00001002": {"vr": "LT", "Value": ["x" * (5 << 20)]}})
    visits = ((large,), (json.dumps(report("COMPLETED")),))
    with serving(Foreign(channel="/rs/subscribers/{ae}", visits=visits)) as foreign:
        with UpsRsClient(foreign.base_url) as client, client.events("ME") as stream:
            assert next_event(stream).state == "COMPLETED"
            assert len(foreign.opened) == 2


def test_a_server_that_forgets_is_subscribed_to_again_and_looked_at() -> None:
    workitem = {**element("SOPInstanceUID", UID), **element("ProcedureStepState", "SCHEDULED")}
    foreign = Foreign(channel="/rs/subscribers/{ae}", visits=((), (), ()), standing=[workitem])
    with serving(foreign):
        with UpsRsClient(foreign.base_url) as client, client.events("ME") as stream:
            for _ in range(3):
                value = stream.receive(WAIT_S)
                assert isinstance(value, Resynchronized)
                assert [text(one, "SOPInstanceUID") for one in value.workitems] == [UID]
    assert len(foreign.subscribed) == 3


def test_a_server_that_restarts_behind_its_channel_is_asked_again() -> None:
    restarted = {
        "00001002": {"vr": "US", "Value": [4]},
        **element("SCPStatus", "RESTARTED"),
        **element("SubscriptionListStatus", "COLD STARTED"),
    }
    with serving(Foreign(channel="/rs/subscribers/{ae}", visits=((json.dumps(restarted),),))) as foreign:
        with UpsRsClient(foreign.base_url) as client, client.events("ME") as stream:
            kinds = [type(stream.receive(WAIT_S)) for _ in range(3)]
            assert kinds == [Resynchronized, UpsEvent, Resynchronized]
    assert len(foreign.subscribed) == 2


def test_a_search_that_ignores_paging_ends() -> None:
    workitems = [element("SOPInstanceUID", f"2.25.{number}") for number in range(1, 4)]
    with serving(Foreign(standing=workitems)) as foreign, UpsRsClient(foreign.base_url) as client:
        assert len(list(client.search_all({}, page=3))) == 3


def test_filters_that_are_not_supported_are_refused_by_name() -> None:
    with serving(Foreign(channel="/rs/subscribers/{ae}", filters=False)) as foreign:
        with UpsRsClient(foreign.base_url) as client:
            with (
                client.events("ME", matching={"WorklistLabel": "AI"}) as stream,
                pytest.raises(ForbiddenError),
            ):
                stream.receive(WAIT_S)
    assert foreign.subscribed == [f"{FILTERED_GLOBAL_SUBSCRIPTION_UID} ME filter=WorklistLabel%3DAI"]


def test_a_server_without_a_channel_says_so() -> None:
    with serving(Foreign()) as foreign, UpsRsClient(foreign.base_url) as client:
        with client.events("ME", resync=NO_RESYNC) as stream, pytest.raises(NoEventChannelError):
            stream.receive(WAIT_S)


def test_redirects_are_followed_nowhere() -> None:
    with serving(Foreign(channel="/rs/subscribers/{ae}")) as other:
        paths = [f"/rs{ws}/subscribers/ME" for ws in ("/ws", "")] + ["/ws/subscribers/ME", "/subscribers/ME"]
        redirects = dict.fromkeys(paths, f"ws://127.0.0.1:{other.port}/rs/subscribers/ME")
        with serving(Foreign(redirects=redirects)) as foreign, UpsRsClient(foreign.base_url) as client:
            with client.events("ME") as stream, pytest.raises(NoEventChannelError):
                stream.receive(WAIT_S)
    assert other.opened == []


def test_the_token_is_shown_where_the_service_is(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n", encoding="ascii")
    with serving(Foreign(channel="/rs/subscribers/{ae}")) as foreign:
        with (
            UpsRsClient(foreign.base_url, token_file=token, name="ME") as client,
            client.events("ME") as stream,
        ):
            assert isinstance(stream.receive(WAIT_S), Resynchronized)
    headers = foreign.opened[0][1]
    assert headers["authorization"] == "Bearer abc"
    assert headers["user-agent"] == "ME"
    assert headers["origin"] == f"http://127.0.0.1:{foreign.port}"


def test_a_stream_that_is_closed_or_stopped_ends() -> None:
    with serving(Foreign(channel="/rs/subscribers/{ae}")) as foreign, UpsRsClient(foreign.base_url) as client:
        stream = client.events("ME")
        assert isinstance(stream.receive(WAIT_S), Resynchronized)
        stream.close()
        assert stream.receive(WAIT_S) is None
        assert list(stream) == []
        assert not stream.connected.is_set()
