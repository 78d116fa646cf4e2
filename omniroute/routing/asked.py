"""One question to routing: what the request is like, what is true now, and the chance that decides between equals."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from omniroute.routing.options import Account, AccountStrategy, Features, Option
from omniroute.routing.view import View

DEFAULT_STICKY_LIMIT = 3
DEFAULT_AFFINITY_TTL_MS = 1_800_000
DEFAULT_SWITCH_MARGIN = 0.05


class Chance:
    """Random numbers from 64 bits, made when first asked for: most plans draw none, and seeding is not cheap."""

    __slots__ = ("_random", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random: random.Random | None = None

    @property
    def rng(self) -> random.Random:
        """The generator; the same seed gives the same numbers in the same order."""
        if self._random is None:
            self._random = random.Random(self.seed)  # noqa: S311 -- load is spread with it, nothing is kept secret
        return self._random


@dataclass(frozen=True, slots=True)
class AccountRules:
    """How accounts are ordered, globally and where a provider has its own rule: (strategy, sticky limit)."""

    strategy: AccountStrategy = AccountStrategy.FILL_FIRST
    sticky_limit: int = DEFAULT_STICKY_LIMIT
    by_provider: Mapping[str, tuple[AccountStrategy, int]] = field(default_factory=dict)
    affinity_ttl_ms: int = DEFAULT_AFFINITY_TTL_MS
    """How long a session stays bound; 0 binds none."""
    has_cache_affinity: bool = True
    """Whether derived session keys bind at providers that offer prompt caching."""
    switch_margin: float = DEFAULT_SWITCH_MARGIN

    def of(self, provider: str) -> tuple[AccountStrategy, int]:
        """Return strategy and sticky limit of a provider."""
        return self.by_provider.get(provider) or (self.strategy, self.sticky_limit)


class Asked(Struct, frozen=True):
    """Everything that a plan depends on beside the block; two equal ones give equal plans.

    Attributes:
        now: epoch seconds.
        permits: whether the caller's key may use an option on an account; None when it has no such rules.
    """

    features: Features
    view: View
    now: float
    chance: Chance
    rules: AccountRules = AccountRules()
    permits: Callable[[Option, Account], bool] | None = None
