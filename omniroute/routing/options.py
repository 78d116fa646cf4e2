"""What may be tried, as routing sees it: facts that stay the same until the configuration changes.

An *option* is a model at a provider with the *accounts* (connections) that can call it. A *block* is a list of options
with the strategy that orders them: a combo, a nested combo, an `auto` channel, or the one option that a plain model
name leads to. What differs from one moment to the next (rests, load, latency) is in `view.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from omniroute.routing.config import DEFAULTS, ComboConfig

ASSUMED_WINDOW: Final = 128_000
"""Tokens that an unknown context window counts as where a plan needs a number, unless the operator assumes others."""


class AuthClass(StrEnum):
    """Which row of the resilience tables a connection belongs to."""

    OAUTH = "oauth"
    API_KEY = "apikey"
    LOCAL = "local"


class Need(StrEnum):
    """What a request needs of a model; the same words stand in :attr:`Option.capabilities`."""

    TOOLS = "tools"
    VISION = "vision"
    AUDIO = "audio"
    DOCUMENT = "document"
    SCHEMA = "schema"
    REASONING = "reasoning"


class Task(StrEnum):
    """Which column of the fitness table counts."""

    GENERAL = "general"
    CODING = "coding"
    REASONING = "reasoning"


class Strategy(StrEnum):
    """How a block orders its steps."""

    PRIORITY = "priority"
    FILL_FIRST = "fill-first"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    STRICT_RANDOM = "strict-random"
    WEIGHTED = "weighted"
    LEAST_USED = "least-used"
    COST_OPTIMIZED = "cost-optimized"
    P2C = "p2c"
    AUTO = "auto"
    LKGP = "lkgp"
    CONTEXT_OPTIMIZED = "context-optimized"
    CONTEXT_RELAY = "context-relay"
    EXPIRING_FIRST = "expiring-first"


class AccountStrategy(StrEnum):
    """How the accounts of one option are ordered."""

    FILL_FIRST = "fill-first"
    ROUND_ROBIN = "round-robin"
    P2C = "p2c"
    RANDOM = "random"
    LEAST_USED = "least-used"
    COST_OPTIMIZED = "cost-optimized"
    EXPIRING_FIRST = "expiring-first"


@dataclass(frozen=True, slots=True)
class Account:
    """A connection. Limits are per connection; 0 is no limit.

    Attributes:
        provider: provider or node id.
        rest_scope: whom a cooldown rests: the connection, or all that hold the same credential.
        is_implicit: the simulated provider's, which needs no stored connection.
        cutoffs: percentages of quota windows, by the windows' names, from which on it is left alone until the reset.
    """

    id: str
    provider: str
    auth: AuthClass
    priority: int = 1
    created_at: float = 0.0
    rest_scope: str = ""
    requests_per_minute: int = 0
    min_gap_ms: int = 0
    max_concurrent: int = 0
    is_implicit: bool = False
    cutoffs: tuple[tuple[str, float], ...] = ()

    @property
    def is_paced(self) -> bool:
        """Whether a request needs a grant before it may start."""
        return bool(self.requests_per_minute or self.min_gap_ms or self.max_concurrent)


@dataclass(frozen=True, slots=True)
class Rates:
    """Price per token in nano-USD; None is not known. `steps` hold what counts above a prompt's length, ascending."""

    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    steps: tuple[tuple[int, Rates], ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """A model at a provider.

    Attributes:
        name: `prefix/model`; unique, and the last word in ties.
        provider: provider or node id.
        accounts: those that can call it, by (priority, creation).
        tier: `subscription`, `cheap`, `api_key`, `free` or `local`.
        window, max_output: tokens; None is unknown.
        capabilities: words of :class:`Need`; None when nothing is known, which denies nothing.
        is_unmetered: a call costs nothing more: free, local, subscription.
        is_loopback: runs on this machine or a private network.
        effort: how hard to think, where the name says so.
        fitness: how good the model is at general, coding and reasoning tasks, 0 to 1; None is not known.
        assumed_window: what an unknown window counts as where a plan needs a number.
        handles: what the caller hangs on it, by account id; nothing here looks inside.
    """

    name: str
    provider: str
    model: str
    accounts: tuple[Account, ...] = ()
    tier: str = "api_key"
    window: int | None = None
    max_output: int | None = None
    capabilities: frozenset[str] | None = None
    rates: Rates | None = None
    is_unmetered: bool = False
    is_loopback: bool = False
    has_prompt_cache: bool = False
    effort: str | None = None
    fitness: tuple[float, float, float] | None = None
    assumed_window: int = ASSUMED_WINDOW
    handles: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def has_price(self) -> bool:
        """Whether it is known what a call costs."""
        rates = self.rates
        return self.is_unmetered or (rates is not None and rates.input is not None and rates.output is not None)

    @property
    def planned_window(self) -> int:
        """The window as a number to plan with."""
        return self.window or self.assumed_window


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a block: an option, or a block that keeps its place as one.

    Attributes:
        id: stable across edits; what metrics and counters are kept under.
        connection_id: the only account that may serve it.
        problem: why it leads nowhere just now (`inactive`, …); None when it leads somewhere.
    """

    id: str
    option: Option | None = None
    block: Block | None = None
    weight: float = 1.0
    connection_id: str | None = None
    label: str | None = None
    name: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Steps with the strategy that orders them.

    Attributes:
        scope: what its counters are kept under: the combo's id, or "" where nothing is kept.
        name: the combo's or channel's name; "" for plain models.
        channel: the `auto` channel (`auto`, `auto/coding`, …) whose weights count; "" for the others.
        levels: where each setting of `config` came from, by its public name; defaults are left out.
    """

    strategy: Strategy
    steps: tuple[Step, ...]
    scope: str = ""
    name: str = ""
    channel: str = ""
    config: ComboConfig = DEFAULTS
    levels: Mapping[str, str] = field(default_factory=dict)
    allowed_providers: tuple[str, ...] = ()
    allowed_families: tuple[str, ...] = ()
    policy_hash: str = ""


class Features(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one request is like.

    Attributes:
        estimated_input: tokens, text, images and tool schemas together.
        max_output: tokens asked for; None when the request does not say.
        session: a keyed hash of the API key's id and the session's value; None without a session.
        is_explicit_session: the caller named it, rather than that it was derived from the text.
        budget_nano: highest cost in nano-USD; None without one.
        connection_id: the only connection that may serve, because the caller named it or an id belongs to it.
        mode: the word of `X-OmniRoute-Mode`, already known to be one; "" without it.
        needs_price: the caller has a budget, which a model of unknown price would not count for.
    """

    requested: str = ""
    client_format: str = ""
    is_stream: bool = False
    estimated_input: int = 0
    max_output: int | None = None
    needs: frozenset[str] = frozenset()
    task: Task = Task.GENERAL
    effort: str | None = None
    key_id: str = ""
    session: str | None = None
    is_explicit_session: bool = False
    mode: str = ""
    budget_nano: int | None = None
    is_budget_strict: bool = False
    may_use_reserve: bool = False
    connection_id: str | None = None
    needs_price: bool = False

    def reserved_output(self, option: Option) -> int:
        """Tokens that the answer may take at an option."""
        if self.max_output is not None:
            return self.max_output
        return min(option.max_output or 4096, 4096)
