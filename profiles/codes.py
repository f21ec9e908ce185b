# SPDX-License-Identifier: Apache-2.0
"""Every coded concept Airway writes or compares, entered once.

No module spells a code inline: it names a constant of this table, so a wrong letter has one place to be.
Meanings are those of PS3.16 Annex D, SNOMED CT and UCUM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, coding scheme designator and meaning.

    References
    ----------
    PS3.3 8.8 Code Sequence macro.
    """

    value: str
    scheme: str
    meaning: str

    def same_concept(self, other: Code) -> bool:
        """Whether both name one concept; the meaning is display text and never compared (PS3.3 8.3)."""
        return (self.value, self.scheme) == (other.value, other.scheme)

    def to_json(self) -> dict[str, Any]:
        """The item of a code sequence in DICOM JSON (PS3.18 F.2)."""
        return {
            "00080100": {"vr": "SH", "Value": [self.value]},
            "00080102": {"vr": "SH", "Value": [self.scheme]},
            "00080104": {"vr": "LO", "Value": [self.meaning]},
        }


# Segmented properties, anatomy (SNOMED CT; CID 7150, 7151, 244)
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")

# Measurements and units
VOLUME = Code("118565006", "SCT", "Volume")
MEAN_ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
EMPHYSEMA_INDEX = Code("AW0001", "99AIRWAY", "Emphysema index, lung voxels below -950 HU")
MILLILITRE = Code("mL", "UCUM", "milliliter")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "percent")

# Roles and workflow
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
OBJECTS_INCORRECTLY_FORMATTED = Code("110521", "DCM", "Objects incorrectly formatted")
WORKITEM_LUNG_CT = Code("AW1001", "99AIRWAY", "Lung CT quantification")
