"""From rows of the catalogue and stored connections to what routing works with."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from omniroute.money import tariff as money
from omniroute.money.book import OVERRIDE
from omniroute.money.tariff import Tariff
from omniroute.providers.spec import Model, Provider, Tier
from omniroute.records import AuthType, Connection
from omniroute.routing.options import ASSUMED_WINDOW, Account, AuthClass, Need, Option, Rates

BILLED: Final = "billed"
SUBSCRIPTION: Final = "subscription"
FREE: Final = "free"
_NEEDS: Final[Mapping[str, Need]] = {
    "tools": Need.TOOLS,
    "vision": Need.VISION,
    "image": Need.VISION,
    "audio": Need.AUDIO,
    "pdf": Need.DOCUMENT,
    "json_schema": Need.SCHEMA,
    "reasoning": Need.REASONING,
}
_PROMPT_CACHE: Final = "prompt_cache"


def account_of(provider: Provider, connection: Connection, rest_scope: str) -> Account:
    """Return a stored connection as routing sees it."""
    return Account(
        id=connection.id,
        provider=provider.id,
        auth=auth_class(provider, connection.auth_type),
        priority=connection.priority,
        created_at=connection.created_at,
        rest_scope=rest_scope,
        requests_per_minute=connection.requests_per_minute or 0,
        min_gap_ms=connection.min_gap_ms or 0,
        max_concurrent=connection.max_concurrent or 0,
        cutoffs=tuple(sorted(connection.quota_cutoffs.items())),
    )


def implicit_account(provider: Provider) -> Account:
    """Return the one account of the simulated provider."""
    return Account(provider.id, provider.id, AuthClass.LOCAL, rest_scope=f"connection:{provider.id}", is_implicit=True)


def auth_class(provider: Provider, auth_type: AuthType) -> AuthClass:
    """Return which row of the resilience tables a connection belongs to."""
    if provider.is_local or auth_type is AuthType.NONE:
        return AuthClass.LOCAL
    return AuthClass.API_KEY


def option_of(
    provider: Provider,
    model: str,
    facts: Model | None,
    accounts: tuple[Account, ...],
    *,
    window: int | None,
    effort: str | None,
    tariff: Tariff | None,
    handles: Mapping[str, Any],
    assumed_window: int = ASSUMED_WINDOW,
) -> Option:
    """Return a model at a provider with the accounts that call it."""
    return Option(
        name=f"{provider.prefix}/{model}",
        provider=provider.id,
        model=model,
        accounts=accounts,
        tier=provider.tier.value,
        window=window,
        assumed_window=assumed_window,
        max_output=None if facts is None else facts.max_output,
        capabilities=capabilities_of(facts),
        rates=None if tariff is None else rates_of(tariff),
        is_unmetered=cost_kind_of(provider, facts, tariff) != BILLED,
        is_loopback=provider.is_implicit or (provider.is_local and _is_private(provider.base_url)),
        has_prompt_cache=facts is not None and _PROMPT_CACHE in facts.capabilities,
        effort=effort,
        handles=handles,
    )


def capabilities_of(facts: Model | None) -> frozenset[str] | None:
    """Return what a model can do in routing's words; None where the catalogue says nothing, which denies nothing."""
    if facts is None or (facts.unstated is None and not (facts.capabilities or facts.input)):
        return None
    open_words = facts.unstated or ()
    stated = {_NEEDS[word].value for word in (*facts.capabilities, *facts.input, *open_words) if word in _NEEDS}
    if facts.unstated is not None:
        return frozenset(stated)
    # A row that lists one side only says nothing about the other.
    if not facts.capabilities:
        stated |= {Need.TOOLS.value, Need.SCHEMA.value, Need.REASONING.value}
    if not facts.input:
        stated |= {Need.AUDIO.value, Need.DOCUMENT.value}
    return frozenset(stated)


def cost_kind_of(provider: Provider, facts: Model | None, tariff: Tariff | None) -> str:
    """Return what a call's cost is: `billed`, `subscription` (paid anyway: a list value) or `free` (nothing).

    Who sets a price for what is free or runs on his own machine wants it charged.
    """
    billing = "metered" if facts is None else facts.billing
    if billing.startswith(SUBSCRIPTION) or (provider.tier is Tier.SUBSCRIPTION and billing != FREE):
        return SUBSCRIPTION
    if tariff is not None and tariff.source == OVERRIDE:
        return BILLED
    if provider.is_local or provider.tier in (Tier.FREE, Tier.LOCAL) or (facts is not None and facts.is_free):
        return FREE
    return BILLED


def rates_of(tariff: Tariff) -> Rates:
    """Return a price per token, for estimates."""
    steps = tuple((above, _rates(rates)) for above, rates in tariff.steps)
    return _rates(tariff.rates, steps)


def _rates(rates: money.Rates, steps: tuple[tuple[int, Rates], ...] = ()) -> Rates:
    return Rates(_per_token(rates.input), _per_token(rates.output), _per_token(rates.cache_read), steps)


def _per_token(nano_per_million: int | None) -> float | None:
    return None if nano_per_million is None else nano_per_million / money.MILLION


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith((".local", ".internal", ".lan")) or "." not in host:
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
