# SPDX-License-Identifier: Apache-2.0
"""A certificate authority that lives as long as its folder, made with the openssl program.

For TLS on loopback in checks only: keys are not protected and certificates last two days.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from conformance.peers.installed import find_program

_VALID_DAYS = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class CertificateAuthority:
    """Issues certificates for names of this machine.

    Parameters
    ----------
    folder : Path
        Where the PEM files go; it must exist.
    name : str
        Common name, and prefix of the authority's own files.
    """

    def __init__(self, folder: Path, name: str = "checks-ca") -> None:
        self._folder = folder
        self._own = self._files(name)
        self._openssl(
            name, self._own, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"
        )

    @property
    def certificate(self) -> Path:
        """PEM file of the authority, what a peer must trust."""
        return self._own.certificate

    def issue(self, name: str) -> Certificate:
        """Return a certificate for `name`, localhost and 127.0.0.1, for a server or a client."""
        issued = self._files(name)
        alternatives = f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1"
        self._openssl(
            name,
            issued,
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth,clientAuth",
            alternatives,
            signer=self._own,
        )
        return issued

    def _files(self, name: str) -> Certificate:
        return Certificate(certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")

    def _openssl(
        self, name: str, files: Certificate, *extensions: str, signer: Certificate | None = None
    ) -> None:
        command = [str(find_program("openssl")), "req", "-x509", "-newkey", "ec", "-noenc", "-sha256"]
        command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", _VALID_DAYS, "-subj", f"/CN={name}"]
        command += ["-keyout", str(files.key), "-out", str(files.certificate)]
        for extension in extensions:
            command += ["-addext", extension]
        if signer is not None:
            command += ["-CA", str(signer.certificate), "-CAkey", str(signer.key)]
        subprocess.run(command, check=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
