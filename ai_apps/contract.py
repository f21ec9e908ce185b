# SPDX-License-Identifier: Apache-2.0
"""The contract between an app and whoever runs it.

An app is a plain object with a manifest and one method: images in, :class:`profiles.air.model.Analysis` out.
It knows no workitem, no protocol, no database; it runs in a child process that may be killed at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from profiles.air.model import Analysis
from profiles.codes import OBJECTS_INCORRECTLY_FORMATTED, Code

Progress = Callable[[int, str], None]
"""Called with percent done (0-100) and a short text; cheap, may be called often."""


class AppError(Exception):
    """The app cannot give a result for these inputs; the workitem is canceled with `reason`.

    Attributes
    ----------
    reason
        Coded discontinuation reason (CID 9300).
    """

    def __init__(self, message: str, reason: Code = OBJECTS_INCORRECTLY_FORMATTED) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInput:
    """What an app gets.

    Attributes
    ----------
    paths
        DICOM files of the selected instances, in no particular order.
    parameters
        Name to value; defaults come from the manifest.
    """

    paths: tuple[Path, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


class App(Protocol):
    """One AI app."""

    def run(self, app_input: AppInput, report: Progress) -> Analysis:
        """Analyse the inputs.

        Raises
        ------
        AppError
            If the inputs cannot be analysed; the message says why and names no patient.
        """
