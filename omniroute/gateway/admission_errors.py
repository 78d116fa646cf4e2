"""What a caller is told whose budget is spent or whose limit is reached."""

from __future__ import annotations

import math
from typing import Final

from omniroute.errors import BudgetExceeded, OmniRouteError, RateLimited
from omniroute.formats.waits import moment, with_wait
from omniroute.money.limits import EVERYBODY, Kind, Standing
from omniroute.money.tariff import NANO, exact_usd
from omniroute.storage.ledger import Places

_MOMENT_S: Final = 2.0
"""When something that others hold may be free again."""
_POINTLESS_AFTER_S: Final = 600.0


def refused(standing: Standing, now: float) -> OmniRouteError:
    """Return the error for a limit that lets nobody in."""
    match standing.hold.kind:
        case Kind.BUDGET:
            return _budget(standing, now)
        case Kind.TOKENS:
            return _tokens(standing, now)
        case Kind.REQUESTS:
            return _requests(standing, now)


def full(places: Places) -> RateLimited:
    """Return the error for a bound on what a caller may do at once."""
    noun = "sessions" if places.is_session else "concurrency"
    what = "sessions at a time" if places.is_session else "requests at a time"
    wait_s = places.lasts_s if places.is_session else _MOMENT_S
    return RateLimited(
        f"This API key may have {places.limit} {what}, and has them.",
        retry_after_s=wait_s,
        should_retry=wait_s <= _POINTLESS_AFTER_S,
        extras={"limit": noun, "max": places.limit},
    )


def usd(nano_usd: int) -> str:
    """Return an amount of money as decimal text with the digits that it has, two at least."""
    whole, _, digits = exact_usd(nano_usd).partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"


def rate_headers(standing: Standing, now: float, *, taken: int = 0) -> dict[str, str]:
    """Return what an answer says of a rule, `taken` requests after it was judged."""
    return {
        "X-RateLimit-Limit": str(standing.hold.limit),
        "X-RateLimit-Remaining": str(max(0, standing.remaining - taken)),
        "X-RateLimit-Reset": str(max(0, math.ceil(standing.resets_at - now))),
    }


def _budget(standing: Standing, now: float) -> BudgetExceeded:
    hold = standing.hold
    is_servers = hold.scope_id == EVERYBODY
    whose = "this server" if is_servers else "this API key"
    resets_at = moment(hold.window.end)
    extras = {
        "scope": "server" if is_servers else "key",
        "period": hold.period,
        "limit_usd": hold.limit / NANO,
        "spent_usd": standing.used / NANO,
        "resets_at": resets_at,
    }
    if standing.is_spent:
        wait_s = max(1.0, hold.window.end - now)
        return BudgetExceeded(
            f"The {hold.period} budget of {whose} is spent: ${usd(standing.used)} of ${usd(hold.limit)}. "
            f"It begins anew at {resets_at}.",
            should_retry=wait_s <= _POINTLESS_AFTER_S,
            extras=extras,
        )
    return BudgetExceeded(
        f"What is left of the {hold.period} budget of {whose} is held by requests in flight: "
        f"${usd(standing.used)} of ${usd(hold.limit)} are spent and ${usd(standing.reserved)} held.",
        should_retry=True,
        retry_after_s=_MOMENT_S,
        extras={**extras, "reserved_usd": standing.reserved / NANO},
    )


def _tokens(standing: Standing, now: float) -> RateLimited:
    hold = standing.hold
    wait_s = max(1.0, hold.window.end - now) if standing.is_spent else _MOMENT_S
    of = "" if hold.of is None else f" for {hold.of[1]}"
    message = f"The {hold.period} limit of {hold.limit} tokens{of} is reached: {standing.used} were used"
    held = "." if standing.is_spent else f", and requests in flight may use {standing.reserved}."
    return RateLimited(
        with_wait(message + held, wait_s),
        retry_after_s=wait_s,
        should_retry=wait_s <= _POINTLESS_AFTER_S,
        extras={"limit": "tokens", "period": hold.period, "resets_at": moment(hold.window.end)},
    )


def _requests(standing: Standing, now: float) -> RateLimited:
    hold = standing.hold
    wait_s = max(1.0, standing.resets_at - now)
    return RateLimited(
        with_wait(f"This API key may send {hold.limit} requests in {hold.period[:-1]} seconds, and has.", wait_s),
        retry_after_s=wait_s,
        should_retry=wait_s <= _POINTLESS_AFTER_S,
        extras={"limit": "requests", "resets_at": moment(standing.resets_at)},
        headers=rate_headers(standing, now),
    )
