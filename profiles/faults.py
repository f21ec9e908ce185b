# SPDX-License-Identifier: Apache-2.0
"""A fault found in somebody's data, with the path of the element at fault.

Validators return all faults at once; they never raise on the first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in an input.

    Attributes
    ----------
    path
        Where: a DICOM keyword path (``InputInformationSequence[0].StudyInstanceUID``), an HL7 location
        (``OBR-4``), a JSON pointer or ``file:line key`` for configuration.
    message
        What is wrong and what is allowed. Never the value of a patient attribute or free text.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message
