# SPDX-License-Identifier: Apache-2.0
"""Two independent checkers of DICOM objects: ``dciodvfy`` for IODs, PixelMed's for report templates.

Both say what they find in lines and are careless with their exit status, so a report counts only with the
lines that show the check was done: a checker that fell over is an error, never a pass.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.peers.installed import find_file, find_program

_TIMEOUT_S = 120
# Since Java 17 the default XPath limits are too low for PixelMed's template rules.
_XPATH_LIMITS = ("TotalOpLimit", "ExprOpLimit", "ExprGrpLimit")
_SR_VALIDATOR = "com.pixelmed.validate.DicomSRValidator"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReport:
    """What a checker says of one file.

    Attributes
    ----------
    checker : str
        Program that spoke.
    recognised : str
        IOD, or root template, the file was checked against; empty when none was recognised.
    errors, warnings : tuple of str
        Lines, in order, without the leading word.
    """

    checker: str
    recognised: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the check was done and found no error; warnings are tolerated."""
        return not self.errors


def check_iod(path: Path) -> ObjectReport:
    """Return what ``dciodvfy`` finds in a DICOM file: modules, types, conditions, enumerated values.

    Raises
    ------
    PeerMissingError
        When dicom3tools is not installed.
    subprocess.TimeoutExpired
        When it does not end.

    References
    ----------
    PS3.3 A (information object definitions).
    """
    lines, status = _run([str(find_program("dciodvfy")), str(path)])
    errors = [_after(line, "Error - ") for line in lines if "Error - " in line]
    errors += [line for line in lines if line.startswith("Abort")]
    warnings = [_after(line, "Warning - ") for line in lines if "Warning - " in line]
    # The only line that is one bare word is the name of the IOD the file was checked against.
    names = [line for line in lines if line.isalnum()]
    if not names:
        errors.append("no information object definition was recognised")
    if status != 0 and not errors:
        errors.append(f"dciodvfy ended with status {status}")
    return ObjectReport(
        checker="dciodvfy",
        recognised=names[0] if names else "",
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def check_structured_report(path: Path, *, root_template: str = "TID_1500") -> ObjectReport:
    """Return what PixelMed's ``DicomSRValidator`` finds: report IOD, templates, context groups.

    Parameters
    ----------
    root_template : str
        Template the report must be recognised as.

    Raises
    ------
    PeerMissingError
        When PixelMed's library or Java is not installed.
    subprocess.TimeoutExpired
        When it does not end.

    Notes
    -----
    It knows no content newer than its rules and warns of it. It matches every measurement group with each of
    TID 1410, 1411 and 1501, so one report should hold one kind of group (PS3.16 TID 1500).
    """
    jar = find_file("PixelMed's library", "/usr/share/java", "pixelmed.jar")
    command = [str(find_program("java")), "-XX:TieredStopAtLevel=1"]
    command += [f"-Djdk.xml.xpath{limit}=0" for limit in _XPATH_LIMITS]
    lines, _ = _run([*command, "-cp", str(jar), _SR_VALIDATOR, str(path)])
    errors = [_after(line, "Error: ") for line in lines if line.startswith("Error: ")]
    warnings = [_after(line, "Warning: ") for line in lines if line.startswith("Warning: ")]
    found = [
        _after(line, "Found Root Template ") for line in lines if line.startswith("Found Root Template ")
    ]
    if not any(line.startswith("Found ") and line.endswith(" IOD") for line in lines):
        errors.append("no structured report definition was recognised")
    if not any(name.partition(" ")[0] == root_template for name in found):
        errors.append(f"the root template is not {root_template}")
    for end in ("Root Template Validation Complete", "IOD validation complete"):
        if end not in lines:
            errors.append(f"the check did not end with: {end}")
    return ObjectReport(
        checker="DicomSRValidator",
        recognised=found[0] if found else "",
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def _run(command: Sequence[str]) -> tuple[list[str], int]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_TIMEOUT_S,
        check=False,
    )
    lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return [line for line in lines if line], done.returncode


def _after(line: str, word: str) -> str:
    before, _, after = line.partition(word)
    return f"{before.strip()} {after}".strip()
