# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a workitem, whatever door it came through.

A command is data: no checks here, the machine answers them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from profiles.codes import Code
from profiles.dicom_json import DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """UPS Create (N-CREATE, PS3.4 CC.2.5)."""

    uid: str
    attributes: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """UPS Set (N-SET, CC.2.6): attributes to change, sequences complete; an empty UID means none came."""

    changes: DicomJson
    transaction_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeState:
    """Change UPS State (N-ACTION type 1, CC.2.1); `state` is the text the peer sent."""

    state: str
    transaction_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancel:
    """Request UPS Cancel (N-ACTION type 2, CC.2.2).

    `requesting_ae` becomes Requesting AE (0074,1236) of the event report, which is type 1; HTTP names none,
    so its door gives what it knows, and what is no AE title is told as anonymous.
    """

    details: DicomJson = field(default_factory=dict)
    requesting_ae: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearrange:
    """The manager itself changes attributes (CC.2.6.3: it may, in any state): assignment, inputs, output.

    No Transaction UID is asked for; no door makes one. State and identity cannot be changed with it.
    """

    changes: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Reidentify:
    """The manager itself corrects whose a workitem is and which order it answers, as the hospital told.

    N-SET may change neither (table CC.2.5-3): this is no update of a peer. A final workitem stays as it is.
    """

    changes: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """The manager itself cancels (CC.2.1.3): a performer gone silent, inputs that never came, expiry.

    From SCHEDULED by way of IN PROGRESS; a final workitem stays as it is. `reason` is of CID 9300.
    """

    reason: Code
    text: str


Command = Update | ChangeState | RequestCancel | Rearrange | Reidentify | Withdraw
"""What can be asked of a workitem that exists; the last three only by the manager itself."""
