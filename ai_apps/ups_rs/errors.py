# SPDX-License-Identifier: Apache-2.0
"""How a UPS-RS or DICOMweb peer refused or failed.

::

    UpsError
    ├── UnreachableError   no answer, a broken one, or 401, 408, 425, 429, 3xx, 5xx: later may work
    └── RefusedError       understood and refused (4xx): `status`, `warnings`, `faults`
        ├── ForbiddenError (403), ConflictError (409)
        ├── NoEventChannelError   no known address offers an event channel
        └── NotFoundError (404) ── GoneError (410)
"""

from __future__ import annotations

from profiles.faults import Fault


class UpsError(Exception):
    """A peer did not do what was asked. Messages name hosts, never a query or a body."""


class UnreachableError(UpsError):
    """There was no usable answer; the request may or may not have taken effect.

    Attributes
    ----------
    status
        HTTP status if there was an answer, else 0.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class RefusedError(UpsError):
    """The peer refused, and would again.

    Attributes
    ----------
    status
        HTTP status.
    warnings
        Texts of the Warning headers (PS3.18 8.3.4).
    faults
        What the peer's body lists as ``faults`` with ``path`` and ``message``, as Airway does.
    """

    def __init__(
        self, status: int, warnings: tuple[str, ...] = (), faults: tuple[Fault, ...] = (), *, told: str = ""
    ) -> None:
        self.status = status
        self.warnings = warnings
        self.faults = faults
        said = told or self.warning
        super().__init__(f"refused with HTTP {status}" + (f": {said}" if said else ""))

    @property
    def warning(self) -> str:
        """All Warning texts in one."""
        return "; ".join(self.warnings)


class ForbiddenError(RefusedError):
    """Not for us, or a kind of subscription that the peer does not support (403)."""


class ConflictError(RefusedError):
    """Not possible in the present state (409)."""


class NotFoundError(RefusedError):
    """There is no such workitem, subscription or resource (404)."""


class GoneError(NotFoundError):
    """It existed and was deleted (410)."""


class NoEventChannelError(RefusedError):
    """No address known for event channels opens one."""


def refusal(status: int, warnings: tuple[str, ...], faults: tuple[Fault, ...]) -> RefusedError:
    """The error for a 4xx status."""
    kinds = {403: ForbiddenError, 404: NotFoundError, 409: ConflictError, 410: GoneError}
    return kinds.get(status, RefusedError)(status, warnings, faults)
