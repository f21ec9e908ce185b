# SPDX-License-Identifier: Apache-2.0
"""DICOM over TLS: the secure transport connection profiles of PS3.15 Annex B as contexts of `ssl`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from profiles.faults import Fault
from task_manager.errors import ConfigurationError


class TlsProfile(StrEnum):
    """Which versions and cipher suites are spoken."""

    BCP195 = "bcp195"
    """TLS 1.2 and 1.3 with forward secrecy and authenticated encryption (PS3.15 B.9, B.10, B.12)."""
    EXTENDED = "bcp195-extended"
    """As that, with 256 bit keys only under TLS 1.2 (PS3.15 B.11)."""


# PS3.15 B.9 to B.12 name these and forbid what is weaker; suites of TLS 1.3 are all strong enough.
_SUITES = {
    TlsProfile.BCP195: "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256",
    TlsProfile.EXTENDED: "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "DHE-RSA-AES256-GCM-SHA384",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Our certificate and key, and whom to trust.

    Attributes
    ----------
    client_ca_file
        Certificates that peers' are checked against (mutual TLS); None asks for none.
    """

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    profile: TlsProfile = TlsProfile.BCP195


def client_context(
    key: str,
    *,
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    profile: TlsProfile = TlsProfile.BCP195,
) -> ssl.SSLContext:
    """The context that peers are called with; their certificates are always checked.

    Parameters
    ----------
    key
        Of the setting, for faults.
    certificate_file, key_file
        Ours, for mutual TLS.

    Raises
    ------
    ConfigurationError
        If files cannot be read, or do not hold what they should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES[profile])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
        if certificate_file is not None:
            context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            Fault(key, f"certificate or key cannot be used ({type(error).__name__}: {error})")
        ) from error
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """The context that connections are accepted with.

    Raises
    ------
    ConfigurationError
        If files cannot be read, or do not hold what they should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES[files.profile])
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.certificate_file, files.key_file)
        if files.client_ca_file is not None:
            context.load_verify_locations(files.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            Fault("gateway.dicom.tls", f"certificate or key cannot be used ({type(error).__name__}: {error})")
        ) from error
    return context
