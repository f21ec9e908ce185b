# SPDX-License-Identifier: Apache-2.0
"""Regular expressions whose search time is linear in the text, whatever the pattern.

The values that rules look at come from outside and the pattern from a person; the backtracking engine of the
standard library can be made to run for hours by a short pattern. RE2 cannot: it has no back-references and no
look-around.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import re2

MAXIMUM_PATTERN_LENGTH = 200
_MOST_MEMORY_BYTES = 1 << 20
_REMEMBERED = 256  # texts per pattern: the series of a study, and studies of a site, say the same again


class PatternError(ValueError):
    """The text is no pattern RE2 takes; the message says why."""


@cache
def compiled(pattern: str) -> Callable[[str], bool]:
    """A function that says whether `pattern` is found anywhere in a text.

    Raises
    ------
    PatternError
        If the pattern is malformed, too long, too large or uses what RE2 does not have.

    References
    ----------
    Syntax: https://github.com/google/re2/wiki/Syntax
    """
    if len(pattern) > MAXIMUM_PATTERN_LENGTH:
        raise PatternError(f"the pattern is longer than {MAXIMUM_PATTERN_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY_BYTES
    try:
        search = re2.compile(pattern, options).search
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else ""
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(told) from error

    @lru_cache(maxsize=_REMEMBERED)
    def found(text: str) -> bool:
        return search(text.encode("utf-8", "replace").decode("utf-8")) is not None

    return found
