"""Look prices up in the list of the genai-prices package; a program of its own, so that no server holds the list.

It reads a line `{"pairs": [[provider, model], …], "at": <epoch seconds>}` from its input, then a list in the format of
the package unless its own is meant, and writes `{"version": …, "rows": [{"provider", "model", "note", <prices>}, …]}`;
models of which the list says nothing are left out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, BinaryIO, Final

from omniroute.money.price_text import plain

LISTED_AS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "claude": "anthropic",
    "openai": "openai",
    "codex": "openai",
    "azure-openai": "azure",
    "azure-ai": "azure",
    "gemini": "google",
    "gemini-cli": "google",
    "antigravity": "google",
    "vertex": "google",
    "vertex-partner": "google",
    "bedrock": "aws",
    "deepseek": "deepseek",
    "groq": "groq",
    "xai": "x-ai",
    "mistral": "mistral",
    "codestral": "mistral",
    "perplexity": "perplexity",
    "together": "together",
    "fireworks": "fireworks",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "cloudflare-ai": "cloudflare",
    "databricks": "databricks",
    "openrouter": "openrouter",
    "novita": "novita",
    "ovhcloud": "ovhcloud",
    "baseten": "baseten",
    "modal": "modal",
    "moonshot": "moonshotai",
    "kimi": "moonshotai",
    "minimax": "minimax",
    "glm": "zai",
    "glmt": "zai",
    "zai": "zai",
    "github": "github-copilot",
    "voyage-ai": "voyageai",
    "arcee-ai": "arcee",
    "meta-api": "meta",
}
"""Provider ids of the catalogue, and the same providers in the package."""

_TOKENS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
_STEPPED: Final = ("input", "output", "cache_read", "cache_write")
_UNITS: Final = {
    "requests_kcount": ("per_request", 1000),
    "input_mchars": ("per_character", 1),
    "input_audio_hours": ("per_second", 3600),
    "audio_hours": ("per_second", 3600),
}
"""Their names for other units, ours, and how many of ours one of theirs is."""
_FINEST: Final = Decimal("0.000000001")
_HALF_HOURS: Final = 48


def answer(pairs: Iterable[tuple[str, str]], at: float, given: bytes = b"") -> dict[str, Any]:
    """Return what a list says of some models; what is given is a list instead of the package's own.

    Raises:
        ValueError: it is no list of prices.
    """
    from genai_prices import __version__, data
    from genai_prices.types import _providers_from_raw

    providers = data.providers
    if given:
        document = json.loads(given)
        if not isinstance(document, list):
            raise ValueError("is no list")
        providers = _providers_from_raw(document)
    return {"version": __version__, "rows": list(_rows(pairs, providers, datetime.fromtimestamp(at, UTC)))}


def _rows(pairs: Iterable[tuple[str, str]], providers: list[Any], at: datetime) -> Iterator[dict[str, Any]]:
    by_id = {provider.id: provider for provider in providers}
    for provider_id, model in pairs:
        provider = by_id.get(LISTED_AS.get(provider_id, ""))
        if provider is None:
            continue
        found = provider.find_model(model, all_providers=providers)
        if found is not None:
            prices = _prices_of(_standing(found, at))
            if prices:
                yield {"provider": provider_id, "model": model, "note": _note(provider.id, found.id), **prices}


def _note(provider: str, model: str) -> str:
    text = f"genai-prices: {provider}/{model}"
    return "".join(character if character.isprintable() else "?" for character in text[:200])


def _standing(model: Any, at: datetime) -> Any:
    """Return the price of a day; where it differs by the hour, the dearest: an estimate must not be too low."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    hours = [model.get_prices(midnight + timedelta(minutes=30 * number)) for number in range(_HALF_HOURS)]
    return max(hours, key=lambda prices: _base(prices.input_mtok) + _base(prices.output_mtok))


def _base(price: Any) -> Decimal:
    return Decimal(0) if price is None else getattr(price, "base", price)


def _prices_of(listed: Any) -> dict[str, Any]:
    """Return prices by our names; empty where none is given, or nothing but zeros, which may mean either."""
    prices = {ours: _base(price) for theirs, ours in _TOKENS.items() if (price := getattr(listed, theirs)) is not None}
    for theirs, (ours, size) in _UNITS.items():
        price = getattr(listed, theirs)
        if price is not None and ours not in prices:
            prices[ours] = _base(price) / size
    if not any(prices.values()):
        return {}
    found: dict[str, Any] = {ours: plain(price.quantize(_FINEST)) for ours, price in prices.items()}
    steps = list(_steps(listed))
    return found | ({"tiers": steps} if steps else {})


def _steps(listed: Any) -> Iterator[dict[str, Any]]:
    tiers = {
        ours: [(tier.start, tier.price) for tier in getattr(getattr(listed, theirs), "tiers", ())]
        for theirs, ours in _TOKENS.items()
        if ours in _STEPPED
    }
    for above in sorted({start for steps in tiers.values() for start, _ in steps}):
        in_force = {ours: [price for start, price in steps if start <= above] for ours, steps in tiers.items()}
        prices = {ours: plain(found[-1].quantize(_FINEST)) for ours, found in in_force.items() if found}
        yield {"above": above, **prices}


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer one question."""
    asked = json.loads(source.readline())
    target.write(json.dumps(answer(asked["pairs"], asked["at"], source.read())).encode())
    target.flush()


if __name__ == "__main__":
    os.nice(10)  # it runs beside requests, and nobody waits for it
    serve(sys.stdin.buffer, sys.stdout.buffer)
