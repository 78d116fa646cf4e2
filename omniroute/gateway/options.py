"""From rows of the catalogue and stored connections to what routing works with."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from omniroute.providers.spec import Model, Price, Provider, Tier
from omniroute.records import AuthType, Connection, PriceStep
from omniroute.routing.options import Account, AuthClass, Need, Option, Rates

_NANO_PER_TOKEN: Final = Decimal(1000)
"""USD per million tokens to nano-USD per token."""
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
_UNMETERED_TIERS: Final = frozenset({Tier.FREE, Tier.LOCAL, Tier.SUBSCRIPTION})


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
    handles: Mapping[str, Any],
) -> Option:
    """Return a model at a provider with the accounts that call it."""
    return Option(
        name=f"{provider.prefix}/{model}",
        provider=provider.id,
        model=model,
        accounts=accounts,
        tier=provider.tier.value,
        window=window,
        max_output=None if facts is None else facts.max_output,
        capabilities=capabilities_of(facts),
        rates=None if facts is None or facts.price is None else rates_of(facts.price),
        is_unmetered=is_unmetered(provider, facts),
        is_loopback=provider.is_implicit or (provider.is_local and _is_private(provider.base_url)),
        has_prompt_cache=facts is not None and _PROMPT_CACHE in facts.capabilities,
        effort=effort,
        handles=handles,
    )


def capabilities_of(facts: Model | None) -> frozenset[str] | None:
    """Return what a model can do in routing's words; None where the catalogue says nothing, which denies nothing."""
    if facts is None or not (facts.capabilities or facts.input):
        return None
    stated = {_NEEDS[word].value for word in (*facts.capabilities, *facts.input) if word in _NEEDS}
    # A row that lists one side only says nothing about the other.
    if not facts.capabilities:
        stated |= {Need.TOOLS.value, Need.SCHEMA.value, Need.REASONING.value}
    if not facts.input:
        stated |= {Need.AUDIO.value, Need.DOCUMENT.value}
    return frozenset(stated)


def is_unmetered(provider: Provider, facts: Model | None) -> bool:
    """Say whether a call costs nothing more than what is paid anyway."""
    if provider.tier in _UNMETERED_TIERS:
        return True
    return facts is not None and (facts.is_free or facts.billing.startswith("subscription"))


def rates_of(price: Price) -> Rates:
    """Return a list price per token."""
    steps = tuple((step.above, _rates(step, price)) for step in sorted(price.tiers, key=lambda step: step.above))
    return Rates(_nano(price.input), _nano(price.output), _nano(price.cache_read), steps)


def _rates(step: PriceStep, base: Price) -> Rates:
    return Rates(
        _nano(step.input or base.input), _nano(step.output or base.output), _nano(step.cache_read or base.cache_read)
    )


def _nano(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(Decimal(text) * _NANO_PER_TOKEN)
    except InvalidOperation:
        return None


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith((".local", ".internal", ".lan")) or "." not in host:
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
