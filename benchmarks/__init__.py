# SPDX-License-Identifier: Apache-2.0
"""Measures Airway beside a peer or a physical limit, in the same run on the same machine.

``python -m benchmarks`` runs everything. Airway is measured from outside as `airway serve`; only what
`inside` measures is called in process. No part of the product, and the product imports nothing of it.
"""
