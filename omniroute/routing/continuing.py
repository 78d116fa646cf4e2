"""Who may finish an answer that broke off: after the attempt loop, and outside it, since content has been sent."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from omniroute.routing.attempts import Candidate
from omniroute.routing.options import Account
from omniroute.routing.plan import Entry, Exclusion, Plan, Seat


def continuations(
    plan: Plan,
    broken: Candidate,
    failed: Container[tuple[str, str]],
    check: Callable[[Entry, Account], Seat | Exclusion],
) -> Iterator[Candidate]:
    """Yield who may finish an answer that broke off, in the order of the plan.

    Args:
        plan: the request's.
        broken: whose answer it was.
        failed: keys of the candidates that had failed before it served.
        check: whether a candidate may be tried now.
    """
    for entry in plan.entries:
        for seat in entry.seats:
            candidate = Candidate(entry, seat)
            if candidate.key == broken.key or candidate.key in failed:
                continue
            checked = check(entry, seat.account)
            if isinstance(checked, Seat) and not checked.probes:
                yield Candidate(entry, checked)
