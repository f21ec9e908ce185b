# SPDX-License-Identifier: Apache-2.0
"""UIDs: the rule for well-formed ones, and UIDs derived from what they name.

Nothing here is random: a re-run of one workitem by one app version derives the same UIDs, which makes
storing its results twice harmless.
"""

from __future__ import annotations

import re
import uuid

_WELL_FORMED = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_NAMESPACE = uuid.UUID("6f6b1f4e-0d0a-5c1e-9a44-9d6c0f1b7a11")


def is_uid(text: str) -> bool:
    """Whether `text` is a well-formed UID of at most 64 characters (PS3.5 9.1)."""
    return len(text) <= 64 and _WELL_FORMED.fullmatch(text) is not None


def derived_uid(*parts: str) -> str:
    """The UID under 2.25 that belongs to `parts`; equal parts give equal UIDs (PS3.5 B.2, RFC 4122 4.3)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join(parts)).int}"
