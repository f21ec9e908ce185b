# SPDX-License-Identifier: Apache-2.0
"""Who may have an association: decided from addresses, AE titles and what is open, before anything else.

Values and decisions only; ``server.py`` asks and answers the peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    CALLING_AE_TITLE = (1, 1, 3)
    CALLED_AE_TITLE = (1, 1, 7)
    CONGESTION = (2, 3, 1)
    LIMIT = (2, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What is set for peers of one calling AE title.

    Attributes
    ----------
    sources
        Where it may come from; empty for anywhere.
    most_associations
        At a time; 0 sets no bound of its own.
    stores
        Whether storage SOP classes are offered to it.
    """

    sources: Sequence[Network] = ()
    most_associations: int = 0
    stores: bool = True


_UNKNOWN = Caller()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may have an association.

    Attributes
    ----------
    called
        AE titles that we answer to; empty for any.
    callers
        Calling AE title to what is set for it.
    only_callers
        Whether others than `callers` are rejected.
    sources
        Where connections may come from; empty for anywhere.
    most_of_one
        Associations of one calling AE title at a time, where it has no bound of its own; 0 sets none.
    """

    called: frozenset[str] = frozenset()
    callers: Mapping[str, Caller] = field(default_factory=dict)
    only_callers: bool = False
    sources: Sequence[Network] = ()
    most_of_one: int = 0

    def takes_connection(self, address: str) -> bool:
        """Whether a connection from `address` is taken at all."""
        return _is_within(address, self.sources)

    def caller(self, calling: str) -> Caller:
        """What is set for `calling`."""
        return self.callers.get(calling, _UNKNOWN)

    def rejection(self, *, called: str, calling: str, address: str, already_open: int) -> Rejection | None:
        """Why this association is not to be; None where nothing speaks against it.

        Parameters
        ----------
        already_open
            Associations of `calling` that are open beside this one.
        """
        if self.called and called not in self.called:
            return Rejection.CALLED_AE_TITLE
        if self.only_callers and calling not in self.callers:
            return Rejection.CALLING_AE_TITLE
        caller = self.caller(calling)
        if not _is_within(address, caller.sources):
            return Rejection.CALLING_AE_TITLE
        most = caller.most_associations or self.most_of_one
        return Rejection.LIMIT if most and already_open >= most else None


def _is_within(address: str, networks: Sequence[Network]) -> bool:
    if not networks:
        return True
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in networks)
