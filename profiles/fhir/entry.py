# SPDX-License-Identifier: Apache-2.0
"""One entry of a transaction: a resource, and the search that says whether it is already there.

The ``fullUrl`` is derived from type and search, so the same result always gives the same Bundle.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from profiles.fhir.identifiers import Json

_NAMESPACE = uuid.UUID("2b7f0d0e-57b6-5d3c-8a39-0f6c4a1be9d4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A resource to be created unless `if_none_exist` finds it (FHIR R4 http 3.1.0.8.1, conditional create).

    Attributes
    ----------
    resource
        The resource; it has no id, the server gives one.
    if_none_exist
        Query part of the search for it, URL-encoded.
    """

    resource: Json
    if_none_exist: str

    @property
    def resource_type(self) -> str:
        """Name of the resource type."""
        return str(self.resource["resourceType"])

    @property
    def full_url(self) -> str:
        """The ``urn:uuid:`` of the entry within and across Bundles."""
        return f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{self.resource_type}?{self.if_none_exist}')}"

    @property
    def reference(self) -> Json:
        """A reference the server replaces by the address of the created or found resource."""
        return {"reference": self.full_url}

    def to_json(self) -> Json:
        """The Bundle entry."""
        return {
            "fullUrl": self.full_url,
            "resource": self.resource,
            "request": {
                "method": "POST",
                "url": self.resource_type,
                "ifNoneExist": self.if_none_exist,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What the results of one study refer to.

    Attributes
    ----------
    patient, study, device
        References; `device` is None if the SR names no algorithm.
    orders
        References to orders, literal or by accession number only.
    """

    patient: Json
    study: Json
    device: Json | None
    orders: tuple[Json, ...]
