# SPDX-License-Identifier: Apache-2.0
"""The functional groups of multi-frame objects, which the kept header leaves out if they are large.

They hold position, orientation, b-value and echo of every frame, so rules on geometry need them; they are
read from the object when a rule asks, and only of objects that have them.

References
----------
PS3.3 C.7.6.16.
"""

from __future__ import annotations

from pathlib import Path

from profiles.dicom_json import DicomJson, tag_key
from task_manager.study.content import UNREADABLE, ContentReader

_SHARED = tag_key("SharedFunctionalGroupsSequence")
_PER_FRAME = tag_key("PerFrameFunctionalGroupsSequence")


def with_functional_groups(attributes: DicomJson, path: Path) -> DicomJson:
    """`attributes`, with the groups per frame of the object at `path` if it has some that were left out.

    An object that cannot be read any more stays as its header is.
    """
    if _SHARED not in attributes or _PER_FRAME in attributes:
        return attributes
    try:
        whole = ContentReader().read(path, lambda _: "")
    except (OSError, *UNREADABLE):
        return attributes
    groups = whole.get(_PER_FRAME)
    return attributes if groups is None else {**attributes, _PER_FRAME: groups}
