# SPDX-License-Identifier: Apache-2.0
"""A UPS-RS client library: the eleven transactions of PS3.18 chapter 11, typed, for any server.

Depends on httpx, websockets and ``profiles`` only. Begin with ``client.py``; what can go wrong is in
``errors.py``, what the event stream yields in ``events.py``.
"""
