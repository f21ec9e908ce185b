# SPDX-License-Identifier: Apache-2.0
"""Orthanc with its DICOMweb plug-in: the independent PACS of the tests, by DIMSE and by DICOMweb.

Starts the Debian package's program in a folder of its own on free ports; no service of the system is used.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from conformance.peers.installed import find_file, find_program
from conformance.peers.process import PeerProcess, free_port

_HTTP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """A DICOM node Orthanc knows and may send to.

    Attributes
    ----------
    name : str
        Orthanc's symbolic name for it.
    ae_title, host, port
        Where it listens.
    """

    name: str
    ae_title: str
    host: str
    port: int


class Orthanc:
    """A running Orthanc: addresses, and questions asked through its REST interface."""

    def __init__(self, process: PeerProcess, *, ae_title: str, http_port: int, dicom_port: int) -> None:
        self.process = process
        self.ae_title = ae_title
        self.host = "127.0.0.1"
        self.dicom_port = dicom_port
        self.http_url = f"http://127.0.0.1:{http_port}"
        self.dicom_web_url = f"{self.http_url}/dicom-web"
        self._client = httpx.Client(base_url=self.http_url, timeout=_HTTP_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connections of the questions; the process is not stopped."""
        self._client.close()

    def answers(self) -> bool:
        """Whether the REST interface is up."""
        try:
            return self._client.get("/system").is_success
        except httpx.TransportError:
            return False

    def rest(self, path: str) -> Any:
        """Return the JSON at `path` of Orthanc's REST interface.

        Raises
        ------
        httpx.HTTPStatusError
            When Orthanc refuses.
        """
        return self._client.get(path).raise_for_status().json()

    def instances(self) -> list[str]:
        """Return Orthanc's own identifiers of all stored instances."""
        return [str(identifier) for identifier in self.rest("/instances")]

    def studies(self) -> list[str]:
        """Return Orthanc's own identifiers of all stored studies."""
        return [str(identifier) for identifier in self.rest("/studies")]

    def tags(self, instance: str) -> dict[str, Any]:
        """Return the attributes of an instance by keyword."""
        return dict(self.rest(f"/instances/{instance}/simplified-tags"))

    def file(self, instance: str) -> bytes:
        """Return the stored DICOM file of an instance."""
        return self._client.get(f"/instances/{instance}/file").raise_for_status().content

    def find(self, level: str, **attributes: str) -> list[str]:
        """Return the identifiers at `level` (Patient, Study, Series, Instance) whose attributes match.

        Parameters
        ----------
        level : str
            Query level.
        **attributes : str
            Keywords and values; the wildcards of PS3.4 C.2.2.2.4 apply.
        """
        answer = self._client.post("/tools/find", json={"Level": level, "Query": attributes})
        return [str(identifier) for identifier in answer.raise_for_status().json()]

    def files_of_study(self, study_instance_uid: str) -> list[bytes]:
        """Return the DICOM files of all instances of a study."""
        return [
            self.file(instance) for instance in self.find("Instance", StudyInstanceUID=study_instance_uid)
        ]

    def add_modality(self, modality: Modality) -> None:
        """Make a DICOM node known, so that Orthanc can send to it."""
        body = {"AET": modality.ae_title, "Host": modality.host, "Port": modality.port}
        self._client.put(f"/modalities/{modality.name}", json=body).raise_for_status()

    def send(self, modality: str, resources: Sequence[str]) -> None:
        """C-STORE the resources (Orthanc identifiers) to a known modality; returns when done.

        Raises
        ------
        httpx.HTTPStatusError
            When the modality refuses or cannot be reached.
        """
        self._client.post(f"/modalities/{modality}/store", json=list(resources)).raise_for_status()

    def clear(self) -> None:
        """Delete every patient, so that the next test starts with an empty archive."""
        for patient in self.rest("/patients"):
            self._client.delete(f"/patients/{patient}").raise_for_status()


def orthanc_configuration(
    folder: Path, *, ae_title: str, http_port: int, dicom_port: int, modalities: Sequence[Modality] = ()
) -> dict[str, Any]:
    """Return the configuration of a private, open, loopback Orthanc that keeps its data in `folder`."""
    plugin = find_file("Orthanc's DICOMweb plug-in", "/usr/share/orthanc/plugins", "libOrthancDicomWeb.so")
    return {
        "Name": ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(plugin)],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": ae_title,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": True,
        "DicomModalities": {m.name: [m.ae_title, m.host, m.port] for m in modalities},
        "OverwriteInstances": False,
        "StableAge": 1,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "PublicRoot": "/dicom-web/"},
    }


@contextmanager
def run_orthanc(
    *,
    folder: Path | None = None,
    ae_title: str = "ORTHANC",
    http_port: int | None = None,
    dicom_port: int | None = None,
    modalities: Sequence[Modality] = (),
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Orthanc]:
    """Run Orthanc and yield it once it answers; stop it afterwards.

    Parameters
    ----------
    folder : Path, optional
        Where it keeps its data; give the same one again to restart with what was stored.
    ae_title : str
        Its AE title; associations for another called AE title are refused.
    http_port, dicom_port : int, optional
        Fixed ports, for a peer that goes down and comes back; free ones otherwise.
    modalities : sequence of Modality
        Nodes it knows from the start.
    settings : mapping, optional
        More keys of Orthanc's configuration file, over ours.

    Raises
    ------
    PeerMissingError
        When Orthanc or its plug-in is not installed.
    PeerFailedError
        When it does not come up; quotes its log.
    """
    with tempfile.TemporaryDirectory(prefix="orthanc-", ignore_cleanup_errors=True) as temporary:
        home = folder or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        http, dicom = http_port or free_port(), dicom_port or free_port()
        configuration = orthanc_configuration(
            home, ae_title=ae_title, http_port=http, dicom_port=dicom, modalities=modalities
        )
        path = home / "orthanc.json"
        path.write_text(json.dumps({**configuration, **(settings or {})}, indent=2), encoding="utf-8")
        with PeerProcess("orthanc", [find_program("Orthanc"), path], home) as process:
            orthanc = Orthanc(process, ae_title=ae_title, http_port=http, dicom_port=dicom)
            try:
                process.wait_ready(orthanc.answers)
                yield orthanc
            finally:
                orthanc.close()
                if folder is None:
                    process.kill()  # an orderly end takes seconds, and nothing of it is kept
