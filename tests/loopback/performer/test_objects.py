# SPDX-License-Identifier: Apache-2.0
"""Fetching and storing with peers that misbehave: nothing is lost, nothing foreign is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_apps.performer.objects import (
    IncompleteInputsError,
    InputSet,
    fetch,
    input_sets,
    output_url,
    store,
)
from ai_apps.ups_rs.connection import Connection
from ai_apps.ups_rs.errors import RefusedError, UnreachableError
from profiles.dicom_json import DicomJson, element, merged
from tests.loopback.performer.child import part10
from tests.loopback.performer.scripted import Script, scripted_peer

RELATED = 'multipart/related; type="application/dicom"; boundary=xx'


def dicom(uid: str, payload: bytes = b"") -> bytes:
    return part10([(8, 0x18, b"UI", uid.encode()), (0x10, 0x4000, b"LT", payload)])


def multipart(*parts: bytes, closed: bool = True) -> bytes:
    framed = b"".join(b"\r\n--xx\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts)
    return framed + (b"\r\n--xx--\r\n" if closed else b"")


@pytest.fixture
def peer() -> Iterator[Script]:
    with scripted_peer() as script:
        yield script


@pytest.fixture
def connection(peer: Script) -> Iterator[Connection]:
    one = Connection(peer.base_url, timeout_s=5.0)
    yield one
    one.close()


def wanted(peer: Script, *uids: str) -> tuple[InputSet, ...]:
    return (InputSet(url=f"{peer.base_url}/series", sop_instance_uids=frozenset(uids)),)


def test_instances_asked_for_are_kept_and_others_are_not(
    peer: Script, connection: Connection, tmp_path: Path
) -> None:
    peer.headers = {"Content-Type": RELATED}
    peer.body = multipart(dicom("1.1", b"a" * 5000), dicom("6.6"), b"no DICOM", dicom("1.2"))
    paths = fetch(connection, wanted(peer, "1.2", "1.1"), tmp_path)
    assert [path.name for path in paths] == ["1.1.dcm", "1.2.dcm"]
    assert paths[0].read_bytes() == dicom("1.1", b"a" * 5000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.1.dcm", "1.2.dcm"]
    assert 'multipart/related; type="application/dicom"' in peer.requests[0][2]["Accept"]


def test_what_is_there_is_not_fetched_again(peer: Script, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "1.1.dcm").write_bytes(dicom("1.1"))
    (tmp_path / "incoming.part").write_bytes(b"half")
    assert fetch(connection, wanted(peer, "1.1"), tmp_path) == (tmp_path / "1.1.dcm",)
    assert peer.requests == []
    assert not (tmp_path / "incoming.part").exists()


def test_a_single_instance_without_multipart(peer: Script, connection: Connection, tmp_path: Path) -> None:
    peer.headers = {"Content-Type": "application/dicom"}
    peer.body = dicom("1.1")
    assert fetch(connection, wanted(peer, "1.1"), tmp_path)[0].read_bytes() == dicom("1.1")


def test_an_answer_that_breaks_off_leaves_what_came_whole(
    peer: Script, connection: Connection, tmp_path: Path
) -> None:
    peer.headers = {"Content-Type": RELATED}
    peer.body = multipart(dicom("1.1"), dicom("1.2", b"b" * 3000))[:-1500]
    peer.declared_length = 10_000
    with pytest.raises(UnreachableError):
        fetch(connection, wanted(peer, "1.1", "1.2"), tmp_path)
    assert (tmp_path / "1.1.dcm").exists()
    assert not (tmp_path / "1.2.dcm").exists()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (RELATED, multipart(dicom("1.1"), closed=False)),
        (RELATED, b""),
        (RELATED, b"\r\n--xx\r\n" + b"x" * 40_000),
        ("multipart/related", multipart(dicom("1.1"))),
        ("text/html", b"<html>"),
        ("", b""),
    ],
)
def test_malformed_answers_count_as_no_answer(
    peer: Script, connection: Connection, tmp_path: Path, content_type: str, body: bytes
) -> None:
    peer.headers, peer.body = {"Content-Type": content_type}, body
    with pytest.raises(UnreachableError):
        fetch(connection, wanted(peer, "1.1"), tmp_path)


def test_instances_the_archive_does_not_have(peer: Script, connection: Connection, tmp_path: Path) -> None:
    peer.headers, peer.body = {"Content-Type": RELATED}, multipart(dicom("1.1"))
    with pytest.raises(IncompleteInputsError, match="1 of 2 input instances"):
        fetch(connection, wanted(peer, "1.1", "1.2"), tmp_path)


@pytest.mark.parametrize("status", [401, 429, 500, 503, 302])
def test_answers_after_which_later_may_work(peer: Script, connection: Connection, status: int) -> None:
    peer.status, peer.headers = status, {"Location": "http://127.0.0.1:1/elsewhere"}
    with pytest.raises(UnreachableError, match=f"HTTP {status}"):
        connection.request("GET", peer.base_url)
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "nonsense", "http://[::1"]
)
def test_addresses_that_are_not_http_are_refused(connection: Connection, url: str) -> None:
    with pytest.raises(RefusedError):
        connection.request("GET", url)


def test_faults_of_a_refusal(peer: Script, connection: Connection) -> None:
    peer.status = 400
    peer.body = b'{"faults": [{"path": "A[0].B", "message": "is missing"}, 5]}'
    with pytest.raises(RefusedError) as caught:
        connection.request("GET", peer.base_url)
    assert [str(fault) for fault in caught.value.faults] == ["A[0].B: is missing"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 5000, b'{"faults": 1}', b"\xff"])
def test_a_refusal_with_any_body_is_a_refusal(peer: Script, connection: Connection, body: bytes) -> None:
    peer.status, peer.body = 400, body
    with pytest.raises(RefusedError) as caught:
        connection.request("GET", peer.base_url)
    assert caught.value.faults == ()


def test_the_token_is_shown_to_the_manager_only(peer: Script, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n", encoding="ascii")
    with scripted_peer() as stranger:
        one = Connection(peer.base_url, token_file=token)
        one.request("GET", f"{peer.base_url}/x")
        one.request("GET", f"{stranger.base_url}/x")
        token.write_text("renewed", encoding="ascii")
        one.request("GET", f"{peer.base_url}/x")
        one.close()
        assert [headers.get("Authorization") for _, _, headers, _ in peer.requests] == [
            "Bearer abc",
            "Bearer renewed",
        ]
        assert "Authorization" not in stranger.requests[0][2]


def test_store_sends_one_whole_object(peer: Script, connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(dicom("1.1", b"c" * 60_000))
    store(connection, f"{peer.base_url}/studies", path)
    ((method, where, headers, body),) = peer.requests
    assert (method, where) == ("POST", "/studies")
    boundary = headers["Content-Type"].rpartition("boundary=")[2].encode()
    assert body == (
        b"--"
        + boundary
        + b"\r\nContent-Type: application/dicom\r\n\r\n"
        + path.read_bytes()
        + b"\r\n--"
        + boundary
        + b"--\r\n"
    )


FAILED = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [43264]}}]}}'


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(202, FAILED, RefusedError), (202, b"[" + FAILED + b"]", RefusedError), (409, FAILED, RefusedError)],
)
def test_store_that_failed(
    peer: Script, connection: Connection, tmp_path: Path, status: int, body: bytes, error: type[Exception]
) -> None:
    (tmp_path / "x.dcm").write_bytes(dicom("1.1"))
    peer.status, peer.body = status, body
    with pytest.raises(error):
        store(connection, peer.base_url, tmp_path / "x.dcm")


def test_store_with_a_remark_is_stored(peer: Script, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(dicom("1.1"))
    peer.status, peer.body = 202, b'{"00081199": {"vr": "SQ"}}'
    store(connection, peer.base_url, tmp_path / "x.dcm")
    assert len(peer.requests) == 1


def item(url: str = "http://a/s", uids: tuple[str, ...] = ("1.1",)) -> DicomJson:
    return merged(
        [
            element("WADORSRetrievalSequence", element("RetrieveURL", url)) if url else {},
            element("ReferencedSOPSequence", *(element("ReferencedSOPInstanceUID", uid) for uid in uids)),
        ]
    )


@pytest.mark.parametrize(
    "items",
    [(), (item(url=""),), (item(uids=()),), (item(uids=("../../x",)),), (item(), item(uids=("1.1", "")))],
)
def test_inputs_that_cannot_be_fetched(items: tuple[DicomJson, ...]) -> None:
    with pytest.raises(IncompleteInputsError):
        input_sets(element("InputInformationSequence", *items))


def test_output_goes_where_the_workitem_says() -> None:
    told = element(
        "OutputDestinationSequence",
        {},
        element("STOWRSStorageSequence", element("StorageURL", "http://pacs/studies")),
    )
    assert output_url(told, "http://own/studies") == "http://pacs/studies"
    assert output_url({}, "http://own/studies") == "http://own/studies"
