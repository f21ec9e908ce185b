# SPDX-License-Identifier: Apache-2.0
"""Running models.

onnxruntime (seen with 1.31) writes a device id and a telemetry database into the home folder unless the
variable below is set before it is imported; a hospital's machine reports to nobody.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
