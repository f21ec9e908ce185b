# SPDX-License-Identifier: Apache-2.0
"""What rules can ask of a study or series beside attributes of its header, by name.

Only names, representations and meanings; the values come from ``survey.py`` (computed over the headers of
all images), ``acquisition.py`` (where it came from), ``profiles/request.py`` (who asked for it) and a
classifier. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """A name rules can use.

    Attributes
    ----------
    vr
        How its values compare (PS3.5 6.2).
    meaning
        For people; the reference page is made of it.
    """

    vr: str
    meaning: str


SOURCE_FACTS: Mapping[str, Fact] = {
    "source.calling_ae": Fact("AE", "calling AE title of who sent images of it; over DICOMweb the user"),
    "source.called_ae": Fact("AE", "AE title it was sent to"),
    "source.door": Fact("CS", "`dicom` or `dicomweb`"),
}

TRIGGER_FACTS: Mapping[str, Fact] = {
    "trigger.kind": Fact(
        "CS",
        "every way the study was asked for: `images` (always), `hl7`, `service-request`, `task`, "
        "`availability`, `performed-step`, `workitem`, `person`",
    ),
    "trigger.source": Fact(
        "LO", "the systems that asked: sending application, AE title, user or host name; none for images"
    ),
    "trigger.requester": Fact("PN", "who stands behind them, as they told"),
    "trigger.app": Fact("LO", "the apps that were asked for by name"),
    "trigger.priority": Fact("CS", "how urgent, where it was said: `HIGH`, `MEDIUM` or `LOW`"),
}

IMAGE_FACTS: Mapping[str, Fact] = {
    "geometry.images": Fact("IS", "images (frames of multi-frame objects count each)"),
    "geometry.unplaced": Fact("IS", "images whose position or orientation is not in the header"),
    "geometry.orientation": Fact(
        "CS", "`AXIAL`, `CORONAL` or `SAGITTAL`, the nearest; `MIXED` if images are not parallel"
    ),
    "geometry.tilt_degrees": Fact("DS", "angle between the images and that plane"),
    "geometry.slices": Fact("IS", "different positions along the normal"),
    "geometry.spacing_mm": Fact("DS", "distance between neighbouring positions, the median"),
    "geometry.regular": Fact("CS", "`YES` if no distance is off it by more than 5 % and 0.01 mm, else `NO`"),
    "geometry.gaps": Fact("IS", "slices missing between the first and the last"),
    "geometry.coverage_mm": Fact("DS", "from the first to the last position, plus one spacing"),
    "geometry.images_per_slice": Fact("IS", "the most images at one position (echoes, b-values, phases)"),
    "geometry.rows": Fact("IS", "rows of the images; several if they differ"),
    "geometry.columns": Fact("IS", "columns of the images; several if they differ"),
    "geometry.pixel_spacing_mm": Fact("DS", "the smaller side of a pixel; several if they differ"),
    "acquisition.b_values": Fact("DS", "all diffusion b-values in s/mm², standard or private of the maker"),
    "acquisition.b_value_count": Fact("IS", "how many different ones"),
    "acquisition.echo_times_ms": Fact("DS", "all echo times"),
    "acquisition.echo_count": Fact("IS", "how many different ones"),
    "acquisition.temporal_positions": Fact(
        "IS", "how many Temporal Position Identifiers, else trigger times"
    ),
    "acquisition.contrast_phase": Fact(
        "CS",
        "as the header has it, else `NATIVE`, `ARTERIAL`, `VENOUS` or `DELAYED` by words of description and "
        "protocol, else by the delay",
    ),
    "acquisition.contrast_delay_s": Fact("DS", "seconds from start of the contrast bolus to acquisition"),
}

LEARNED_FACTS: Mapping[str, Fact] = {
    "learned.class": Fact("LO", "label the classifier of the file gives; unknown below its confidence"),
}

FACTS: Mapping[str, Fact] = {**SOURCE_FACTS, **TRIGGER_FACTS, **IMAGE_FACTS, **LEARNED_FACTS}
FACT_SPACES = frozenset(name.partition(".")[0] for name in FACTS)
