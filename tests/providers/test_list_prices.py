"""What is built in is a usable price, whole and without contradictions."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal

import pytest

from omniroute.money.book import PriceBook, check
from omniroute.money.tariff import NANO
from omniroute.providers.catalog import Catalogue, load
from omniroute.providers.list_prices import list_prices, row_of
from omniroute.providers.spec import Price
from omniroute.records import PriceStep


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def test_every_built_in_price_can_be_billed(catalogue: Catalogue) -> None:
    counted = 0
    for provider in catalogue:
        for model in catalogue.models_of(provider.id).values():
            if model.price is not None:
                counted += 1
                row = row_of(provider.id, model.id, model.price)
                check(row)
                assert [step.above for step in row.tiers] == sorted({step.above for step in row.tiers})
    assert counted > 1300


def test_no_built_in_price_is_finer_than_a_nano_dollar(catalogue: Catalogue) -> None:
    prices = {model.price for models in catalogue.models.values() for model in models.values() if model.price}
    texts = [text for price in prices for text in _texts(price)]

    assert len(texts) > 1000
    for text in texts:
        exponent = Decimal(text).as_tuple().exponent
        assert isinstance(exponent, int)
        assert exponent >= -9


@pytest.mark.parametrize(
    ("provider", "model", "field", "nano"),
    [
        ("anthropic", "claude-sonnet-4-6", "cache_write_1h", 6 * NANO),
        ("gemini", "gemini-2.5-flash", "audio_input", NANO),
        ("gemini", "gemini-2.5-flash", "reasoning", NANO * 5 // 2),
    ],
)
def test_rates_of_the_catalogue(catalogue: Catalogue, provider: str, model: str, field: str, nano: int) -> None:
    tariff = PriceBook((), list_prices(catalogue)).tariff(provider, model)

    assert tariff is not None
    assert (tariff.source, getattr(tariff.rates, field)) == ("builtin", nano)


@pytest.mark.parametrize(
    ("provider", "model", "field", "nano"),
    [
        ("openai", "whisper-1", "per_second", 100_000),
        ("openai", "tts-1", "per_character", 15 * NANO),
        ("cohere", "rerank-v3.5", "per_request", 2_000_000),
        ("perplexity", "sonar", "per_request", 5_000_000),
        ("gemini", "gemini-3-pro-image-preview", "per_image", 134_000_000),
        ("xai", "grok-imagine-image", "per_image", 20_000_000),
    ],
)
def test_prices_of_other_units(catalogue: Catalogue, provider: str, model: str, field: str, nano: int) -> None:
    tariff = PriceBook((), list_prices(catalogue)).tariff(provider, model)

    assert tariff is not None
    assert getattr(tariff, field) == nano
    facts = catalogue.models_of(provider)[model]
    assert not facts.is_free, "tokens alone cost nothing, a call does"


def test_a_step_of_the_catalogue(catalogue: Catalogue) -> None:
    row = list_prices(catalogue)("codex", "gpt-5.5")

    assert row is not None
    assert row.tiers == (PriceStep(272_000, input="10", output="45", cache_read="1"),)


def test_what_the_catalogue_does_not_price_is_no_row(catalogue: Catalogue) -> None:
    look_up = list_prices(catalogue)

    assert look_up("openai", "no-such-model") is None
    assert look_up("no-such-provider", "gpt-5") is None
    assert look_up("ollama-cloud", "gpt-oss:120b") is None


def test_names_that_callers_make_up_are_not_kept(catalogue: Catalogue) -> None:
    look_up = list_prices(catalogue)
    look_up("codex", "gpt-5.5")

    tracemalloc.start()
    try:
        for number in range(5000):
            assert look_up("openai", f"made-up-{number}") is None
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 50_000, f"{kept} B are held after 5,000 names"
    assert look_up("codex", "gpt-5.5") is look_up("codex", "gpt-5.5"), "a row is made once"


def _texts(price: Price) -> list[str]:
    named = [getattr(price, name) for name in Price.__dataclass_fields__ if name != "tiers"]
    stepped = [getattr(step, name) for step in price.tiers for name in ("input", "output", "cache_read", "cache_write")]
    return [text for text in (*named, *stepped) if text is not None]
