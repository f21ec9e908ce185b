# SPDX-License-Identifier: Apache-2.0
"""Claims on disk: what a performer must remember so that a crash at any instant loses nothing.

A claim is written before the manager is asked for it, and removed after the workitem is final or lost. Its
folder is also the job folder of the run.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from ai_apps.performer.job import sync_folder, write_json
from profiles.uids import is_uid

logger = logging.getLogger(__name__)

_NAME = "claim.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One workitem that this performer claims or has claimed.

    Attributes
    ----------
    transaction_uid
        The secret that makes the workitem ours (PS3.4 CC.2.1).
    app
        Name of the app that runs.
    performed_at
        Aware time of the claim; a re-run encodes the same one into its results.
    attempts
        How often the app was started.
    """

    workitem_uid: str
    transaction_uid: str
    app: str
    performed_at: datetime
    attempts: int = 0


class ClaimFolder:
    """The claims under `root`, one folder each, named by workitem."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def folder(self, claim: Claim) -> Path:
        """The folder of a claim."""
        return self._root / claim.workitem_uid

    def new(self, workitem_uid: str, app: str, now: datetime) -> Claim:
        """A claim with a fresh Transaction UID, durable on return."""
        if not is_uid(workitem_uid):
            raise ValueError("not a UID")
        claim = Claim(
            workitem_uid=workitem_uid,
            transaction_uid=f"2.25.{uuid.uuid4().int}",
            app=app,
            performed_at=now,
        )
        self.write(claim)
        return claim

    def started(self, claim: Claim) -> Claim:
        """The claim with one more attempt, durable on return."""
        counted = replace(claim, attempts=claim.attempts + 1)
        self.write(counted)
        return counted

    def write(self, claim: Claim) -> None:
        """Replace what is remembered of a claim, durably."""
        folder = self.folder(claim)
        folder.mkdir(exist_ok=True)
        write_json(folder / _NAME, {**asdict(claim), "performed_at": claim.performed_at.isoformat()})
        sync_folder(self._root)

    def remove(self, claim: Claim) -> None:
        """Forget a claim and all files of its run."""
        folder = self.folder(claim)
        (folder / _NAME).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def all(self) -> list[Claim]:
        """Every claim that is remembered, oldest first; folders without a readable one are removed."""
        claims: list[Claim] = []
        for folder in self._root.iterdir():
            if not folder.is_dir():
                continue
            claim = _read(folder)
            if claim is None:
                logger.warning("work folder without claim removed", extra={"action": "performer.swept"})
                shutil.rmtree(folder, ignore_errors=True)
            else:
                claims.append(claim)
        return sorted(claims, key=lambda claim: (claim.performed_at, claim.workitem_uid))


def _read(folder: Path) -> Claim | None:
    try:
        document = json.loads((folder / _NAME).read_bytes())
        claim = Claim(**{**document, "performed_at": datetime.fromisoformat(document["performed_at"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    usable = is_uid(claim.transaction_uid) and claim.workitem_uid == folder.name and claim.performed_at.tzinfo
    return claim if usable else None
