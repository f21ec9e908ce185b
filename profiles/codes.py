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

# Structure of a measurement report (TID 1500, 1411, 1419, 4019) and its FHIR counterparts
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UNIQUE_IDENTIFIER = Code("112040", "DCM", "Tracking Unique Identifier")
STUDY_INSTANCE_UID = Code("110180", "DCM", "Study Instance UID")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
DERIVATION = Code("121401", "DCM", "Derivation")
LATERALITY = Code("272741003", "SCT", "Laterality")
PRESENCE_OF_PROPERTY = Code("121052", "DCM", "Presence of property")
ABSENT = Code("272519000", "SCT", "Absent")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging (procedure)")

# Why a number is missing (CID 42)
NOT_A_NUMBER = Code("114000", "DCM", "Not a number")
NEGATIVE_INFINITY = Code("114001", "DCM", "Negative Infinity")
POSITIVE_INFINITY = Code("114002", "DCM", "Positive Infinity")
DIVIDE_BY_ZERO = Code("114003", "DCM", "Divide by zero")
UNDERFLOW = Code("114004", "DCM", "Underflow")
OVERFLOW = Code("114005", "DCM", "Overflow")
MEASUREMENT_FAILURE = Code("114006", "DCM", "Measurement failure")
MEASUREMENT_NOT_ATTEMPTED = Code("114007", "DCM", "Measurement not attempted")
CALCULATION_FAILURE = Code("114008", "DCM", "Calculation failure")
VALUE_OUT_OF_RANGE = Code("114009", "DCM", "Value out of range")
VALUE_UNKNOWN = Code("114010", "DCM", "Value unknown")
VALUE_INDETERMINATE = Code("114011", "DCM", "Value indeterminate")
