"""Which of several failures the caller is told: the one that he can do most about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omniroute.routing.attempts import Tried
from omniroute.routing.failures import PROXY_FAILED, Failure, FailureClass

LIMITS: Final = frozenset({FailureClass.RATE_LIMIT, FailureClass.QUOTA, FailureClass.LOCAL})
OURS: Final = frozenset({"no_credit", "blocked", PROXY_FAILED})
"""Our credit at a provider, an address that we may not call, our proxy: our fault, and no limit of the caller's."""

_LIMIT_RANK: Final = 3
_KIND_RANK: Final = {"context_length": 0, "too_large": 0, "content_policy": 2}
_CLASS_RANK: Final = {
    FailureClass.CALLER_FAULT: 1,
    FailureClass.RATE_LIMIT: _LIMIT_RANK,
    FailureClass.QUOTA: _LIMIT_RANK,
    FailureClass.LOCAL: _LIMIT_RANK,
    FailureClass.TRANSIENT: 6,
    FailureClass.UNKNOWN: 6,
    FailureClass.MODEL_UNAVAILABLE: 8,
    FailureClass.CREDENTIAL: 9,
    FailureClass.CANCELLED: 10,
}
_LIMIT_RANK_BESIDE_FAULTS: Final = 7
"""Where somebody failed for a moment, coming back soon is better advice than waiting for a limit to end."""


def most_telling(tried: Sequence[Tried]) -> Tried:
    """Choose the failure to report; of equal ranks the first. Raises ValueError when nothing was tried."""
    has_faults = any(one.failure.failure_class in {FailureClass.TRANSIENT, FailureClass.UNKNOWN} for one in tried)
    return min(tried, key=lambda one: _rank(one.failure, has_faults=has_faults))


def _rank(failure: Failure, *, has_faults: bool) -> int:
    if failure.kind in _KIND_RANK:
        return _KIND_RANK[failure.kind]
    if failure.kind == "overloaded":
        return 4
    if failure.kind.startswith("timeout"):
        return 5
    if failure.kind in OURS:
        return _CLASS_RANK[FailureClass.CREDENTIAL]
    rank = _CLASS_RANK[failure.failure_class]
    return _LIMIT_RANK_BESIDE_FAULTS if rank == _LIMIT_RANK and has_faults else rank
