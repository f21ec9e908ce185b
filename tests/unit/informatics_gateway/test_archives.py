# SPDX-License-Identifier: Apache-2.0
"""From settings to archives: who is asked how, as who it is marked, and every fault with its key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from informatics_gateway.archives import fetch_limits, make_study_archives
from informatics_gateway.dicomweb.study_archive import WadoRetrieval, WebStudyQuery
from informatics_gateway.dimse.retrieve_scu import GetRetrieval, MoveRetrieval
from informatics_gateway.dimse.study_query import DimseStudyQuery
from informatics_gateway.settings import Settings
from task_manager.errors import ConfigurationError

PEERS = [
    {"ae_title": "PACS1", "host": "127.0.0.1", "port": 4242},
    {"ae_title": "SELF", "host": "127.0.0.1", "port": 11112},
]
URL = "https://vna.example/dicom-web"


def settings(*archives: dict[str, Any], **fetch: Any) -> Settings:
    return Settings.model_validate(
        {"gateway": {"peers": PEERS}, "fetch": {"archives": list(archives), **fetch}}
    )


@pytest.mark.parametrize(
    ("archive", "query", "retrieval", "source"),
    [
        ({"ae_title": "PACS1"}, DimseStudyQuery, MoveRetrieval, "dicom:PACS1\\AIRWAY"),
        ({"ae_title": "PACS1", "retrieve": "get"}, DimseStudyQuery, GetRetrieval, "dicom:PACS1\\AIRWAY"),
        ({"ae_title": "PACS1", "url": URL}, WebStudyQuery, MoveRetrieval, "dicom:PACS1\\AIRWAY"),
        ({"url": URL, "retrieve": "wado"}, WebStudyQuery, WadoRetrieval, "dicomweb:pacs"),
    ],
    ids=["move", "get", "found by QIDO, moved", "wado"],
)
def test_how_an_archive_is_spoken_to(
    archive: dict[str, Any], query: type, retrieval: type, source: str
) -> None:
    (made,) = make_study_archives(settings({"name": "pacs", **archive}))
    assert isinstance(made.query, query)
    assert isinstance(made.retrieval, retrieval)
    assert made.actor.source == source
    made.close()


@pytest.mark.parametrize(
    ("archives", "fault"),
    [
        ([{"name": "a", "ae_title": "NOBODY"}], "fetch.archives[0].ae_title: is no peer of gateway.peers"),
        (
            [{"name": "a", "ae_title": "SELF"}],
            "fetch.archives[0].ae_title: is our own door: nothing is fetched from there",
        ),
        (
            [{"name": "a", "ae_title": "PACS1"}, {"name": "a", "ae_title": "PACS1"}],
            "fetch.archives: name 'a' is used twice",
        ),
        (
            [{"name": "a", "url": "http://vna.example", "retrieve": "wado", "token_file": "/t"}],
            "fetch.archives[0].token_file: a token is sent over https only",
        ),
    ],
    ids=["no peer", "ourselves", "twice", "a token in the clear"],
)
def test_archives_that_cannot_be(archives: list[dict[str, Any]], fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_study_archives(settings(*archives))
    assert [str(one) for one in caught.value.faults] == [fault]


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    tls = {"certificate_file": str(tmp_path / "none.pem"), "key_file": str(tmp_path / "none.key")}
    with pytest.raises(ConfigurationError, match="certificate or key cannot be used") as caught:
        make_study_archives(settings({"name": "a", "ae_title": "PACS1", "tls": tls}))
    assert caught.value.faults[0].path == "fetch.archives[0].tls"


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ({"retrieve": "wado", "ae_title": "PACS1"}, "wado needs url"),
        ({"retrieve": "move", "url": URL}, "move needs ae_title"),
        ({"retrieve": "get", "url": URL}, "get needs ae_title"),
        ({"retrieve": "wado", "url": URL, "tls": {}}, "tls is of a DICOM peer"),
        ({"retrieve": "push", "ae_title": "PACS1"}, "move"),
    ],
    ids=["wado without url", "move without title", "get without title", "tls without title", "no such way"],
)
def test_settings_that_do_not_fit(archive: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings({"name": "a", **archive})


def test_the_limits_are_those_of_the_settings() -> None:
    limits = fetch_limits(settings(give_up_h=2, most_at_once=3, most_tries=7, priors_run_rules=True))
    assert (limits.give_up, limits.most_at_once, limits.most_tries) == (timedelta(hours=2), 3, 7)
    assert limits.priors_run_rules
