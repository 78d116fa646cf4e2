"""What planning gives: candidates in order, what was left out and why, and what the caller has to note down."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from omniroute.routing.config import DEFAULTS, ComboConfig
from omniroute.routing.options import Account, Option, Strategy


class Reason(StrEnum):
    """Why a target or a connection is left out. A closed list; `capability:<need>` is said with the need behind it."""

    INACTIVE = "inactive"
    HIDDEN = "hidden"
    PROVIDER_BLOCKED = "provider_blocked"
    TERMS_NOT_ACCEPTED = "terms_not_accepted"
    KEY_POLICY = "key_policy"
    CREDENTIAL_DEAD = "credential_dead"
    ACCOUNT_BLOCKED = "account_blocked"
    NO_CREDIT = "no_credit"
    QUOTA_EXHAUSTED = "quota_exhausted"
    QUOTA_CUTOFF = "quota_cutoff"
    COOLING = "cooling"
    LOCKED_OUT = "locked_out"
    BREAKER_OPEN = "breaker_open"
    BREAKER_PROBE_TAKEN = "breaker_probe_taken"
    RESERVE = "reserve"
    CONCURRENCY_FULL = "concurrency_full"
    RPM_FULL = "rpm_full"
    QUEUE_FULL = "queue_full"
    CAPABILITY = "capability"
    CONTEXT_TOO_SMALL = "context_too_small"
    OUTPUT_TOO_SMALL = "output_too_small"
    FEATURE_PINNED = "feature_pinned"
    PRICE_ABOVE_BUDGET = "price_above_budget"
    PRICE_UNKNOWN = "price_unknown"
    NOT_LOCAL = "not_local"
    LOW_SCORE = "low_score"
    CHANNEL_EXCLUDED = "channel_excluded"
    FAMILY_NOT_ALLOWED = "family_not_allowed"
    PROVIDER_NOT_ALLOWED = "provider_not_allowed"
    TRIED = "tried"
    PROXY_UNAVAILABLE = "proxy_unavailable"


WAITABLE = frozenset({Reason.COOLING, Reason.LOCKED_OUT, Reason.CONCURRENCY_FULL, Reason.RPM_FULL, Reason.QUEUE_FULL})
"""Reasons that pass by themselves soon enough to be waited for."""


class Exclusion(Struct, frozen=True, gc=False):
    """A target, or one connection of it, that is left out. `until` is epoch seconds; None is not known or never."""

    target: str
    reason: str
    connection_id: str | None = None
    until: float | None = None
    detail: str | None = None


class Scored(Struct, frozen=True, gc=False):
    """A target's score and what it is made of: (value, weight, known) by factor."""

    target: str
    score: float
    factors: Mapping[str, tuple[float, float, bool]] = field(default_factory=dict)


class Probe(Struct, frozen=True, gc=False):
    """What has to be won before an attempt may start: only one request at a time tries something that rested."""

    scope: str
    """`provider:<id>`, `connection:<id>`, `model:<connection>:<model>` or `score:<option>`."""


class Seat(Struct, frozen=True, gc=False):
    """One account of a target in a plan.

    Attributes:
        rests: it should rest for longer, but the reason is vague enough for an early look: only with somebody behind.
    """

    account: Account
    probes: tuple[Probe, ...] = ()
    rests: Exclusion | None = None


class Entry(Struct, frozen=True, gc=False):
    """One target of a plan with its accounts in order.

    Attributes:
        scope: the counters' scope of the block that it stands in ("" for plain models); with `step_id`, where its
            use is counted.
        waits_when_paced: a request waits for a grant here, rather than passing on to the next target.
        config: the settings of the block that it stands in.
    """

    option: Option
    seats: tuple[Seat, ...]
    step_id: str = ""
    scope: str = ""
    waits_when_paced: bool = False
    config: ComboConfig = DEFAULTS


class Intent(Struct, frozen=True, gc=False):
    """What the caller shall keep for the next plan: a JSON value under a scope and kind.

    Attributes:
        is_at_end: only when the request has reached its commit point or its final failure.
    """

    scope: str
    kind: str
    value: Any
    is_at_end: bool = False


class Plan(Struct, frozen=True, gc=False):
    """Ordered targets, each with ordered accounts, and everything that explains them."""

    entries: tuple[Entry, ...]
    exclusions: tuple[Exclusion, ...] = ()
    scores: tuple[Scored, ...] = ()
    intents: tuple[Intent, ...] = ()
    strategy: Strategy = Strategy.PRIORITY
    is_sticky: bool = False
    """The head is there because the session stays with it."""
    warnings: tuple[str, ...] = ()
    is_over_budget: bool = False
    """A strict budget has left nobody."""
    listing: tuple[Entry, ...] = ()
    """Every step of the block with all its accounts, in the order of the list, where that is what was planned but for
    the order of some accounts: then it need not be written down."""
