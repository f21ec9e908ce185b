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

# Content of a measurement report that has no FHIR counterpart (TID 1001-1005, 1500, 1600, 4019)
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
MEASUREMENT_REPORT_TITLES = (
    IMAGING_MEASUREMENT_REPORT,
    Code("126001", "DCM", "Oncology Measurement Report"),
    Code("126002", "DCM", "Dynamic Contrast MR Measurement Report"),
    Code("126003", "DCM", "PET Measurement Report"),
)
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
PROCEDURE_STUDY_INSTANCE_UID = Code("121018", "DCM", "Procedure Study Instance UID")
PROCEDURE_PLACER_NUMBER = Code("121020", "DCM", "Placer Number")
PROCEDURE_FILLER_NUMBER = Code("121021", "DCM", "Filler Number")
PROCEDURE_ACCESSION_NUMBER = Code("121022", "DCM", "Accession Number")
PROCEDURE_CODE = Code("121023", "DCM", "Procedure Code")
DEVICE_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_OBSERVER_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL_NAME = Code("121015", "DCM", "Device Observer Model Name")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
FRAME_OF_REFERENCE_UID = Code("112227", "DCM", "Frame of Reference UID")
PIXEL_DATA_ROWS = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
PIXELS = Code("{pixels}", "UCUM", "pixels")
FINDING = Code("121071", "DCM", "Finding")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
MEASUREMENT_METHOD = Code("370129005", "SCT", "Measurement Method")
TOPOGRAPHICAL_MODIFIER = Code("106233006", "SCT", "Topographical modifier")
GEOMETRIC_PURPOSE_OF_REGION = Code("130400", "DCM", "Geometric purpose of region")
ACTIVITY_SESSION = Code("C67447", "NCIt", "Activity Session")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
REFERENCED_SEGMENTATION_FRAME = Code("121214", "DCM", "Referenced Segmentation Frame")
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
PRESENT = Code("52101004", "SCT", "Present")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
ENGLISH = Code("en", "RFC5646", "English")

# What an HL7 v2 result refers to
STUDY_INSTANCE_UID = Code("110180", "DCM", "Study Instance UID")
ORIGINAL_SOURCE = Code("111040", "DCM", "Original Source")

# Purposes of equipment and of series (CID 7005; SeriesDescriptionCodeSequence)
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_ALGORITHM_PROVISIONAL = Code("Newcode1", "99IHE", "Processing Algorithm")
SEGMENTATION = Code("113076", "DCM", "Segmentation")

# Procedures named when no order does (CID 100), by modality of the images
PROCEDURE_BY_MODALITY = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
}

# Reasons for an app to give no result (CID 9300)
EQUIPMENT_FAILURE = Code("110501", "DCM", "Equipment failure")
OBJECT_TYPES_NOT_SUPPORTED = Code("110522", "DCM", "Object Types not supported")
OBJECT_SET_INCOMPLETE = Code("110523", "DCM", "Object Set incomplete")

# What the lung CT app states beyond volume and density
RIGHT_AND_LEFT = Code("51440002", "SCT", "Right and left")
LOW_ATTENUATION_AREA = Code("AW0002", "99AIRWAY", "Low attenuation area below -950 HU (Gevenois 1996)")

# Audit messages of operational events (IHE SOLE; PS3.15 A.5, CID 400 to 405). The designator of the event
# id is what public SOLE samples carry; sites may configure another.
IMAGING_OPERATIONAL_EVENT = Code("SOLE", "IHE-RAD", "Imaging Operational Event")
APPLICATION = Code("110150", "DCM", "Application")
DESTINATION_ROLE = Code("110152", "DCM", "Destination Role ID")
PATIENT = Code("121025", "DCM", "Patient")
ACCESSION_NUMBER = Code("121022", "DCM", "Accession Number")
PLACER_NUMBER = Code("121020", "DCM", "Placer Number")
WORKITEM_UID = Code("AW2001", "99AIRWAY", "Workitem UID")

# What the task manager says of a canceled workitem when nobody gave a reason (CID 9300)
DISCONTINUED_FOR_UNSPECIFIED_REASON = Code("110513", "DCM", "Discontinued for unspecified reason")
DERIVED_IMAGING_MEASUREMENTS = Code("126011", "DCM", "Derived Imaging Measurements")
NO_UNITS = Code("1", "UCUM", "no units")
# What a performer did when the workitem names no task (CID 9231)
IMAGE_PROCESSING = Code("110001", "DCM", "Image Processing")
# Why the task manager or a performer ends a workitem before its time, and whether it is to be tried again
DUPLICATE_ORDER = Code("110510", "DCM", "Duplicate order")
RESCHEDULED = Code("110528", "DCM", "Discontinued Procedure Step rescheduled")
RESCHEDULING_RECOMMENDED = Code("110529", "DCM", "Discontinued Procedure Step rescheduling recommended")
WORKITEM_EXPIRED = Code("110533", "DCM", "Workitem expired")

# Why the task manager itself cancels or assigns anew (CID 9300)
RESOURCE_INADEQUATE = Code("110527", "DCM", "Resource inadequate")
ASSIGNMENT_REJECTED = Code("110530", "DCM", "Workitem assignment rejected by assigned resource")
