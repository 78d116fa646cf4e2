"""Prices from the list of the package, and from others in its format."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from omniroute.money.book import PRICES, check
from omniroute.providers.catalog import load
from omniroute.providers.price_list import LISTED_AS, answer, serve
from omniroute.records import PriceRow, PriceStep

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()


def listed(*models: dict[str, Any], provider: str = "openai", **more: Any) -> bytes:
    """A list with one provider."""
    row = {"id": provider, "name": provider, "api_pattern": "x", "models": models, **more}
    return json.dumps([row]).encode()


def model(name: str, prices: Any) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": prices}


def found(given: bytes, name: str = "gpt-9", provider: str = "openai", at: float = NOON) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = answer([(provider, name)], at, given)["rows"]
    return rows[0] if rows else None


def test_prices_by_our_names() -> None:
    row = found(
        listed(
            model(
                "gpt-9",
                {
                    "input_mtok": 2.5,
                    "output_mtok": 10,
                    "cache_read_mtok": 0.25,
                    "cache_write_mtok": 3,
                    "cache_write_1h_mtok": 5,
                    "output_reasoning_mtok": 12,
                    "input_audio_mtok": 40,
                    "output_audio_mtok": 80,
                    "requests_kcount": 5,
                },
            )
        )
    )

    assert row == {
        "provider": "openai",
        "model": "gpt-9",
        "note": "genai-prices: openai/gpt-9",
        "input": "2.5",
        "output": "10",
        "cache_read": "0.25",
        "cache_write": "3",
        "cache_write_1h": "5",
        "reasoning": "12",
        "audio_input": "40",
        "audio_output": "80",
        "per_request": "0.005",
    }


def test_steps_are_brought_together() -> None:
    prices = {
        "input_mtok": {"base": 1, "tiers": [{"start": 400, "price": 3}, {"start": 200, "price": 2}]},
        "output_mtok": {"base": 5, "tiers": [{"start": 200, "price": 6}]},
        "cache_read_mtok": 0.1,
    }
    row = found(listed(model("gpt-9", prices)))

    assert row is not None
    assert (row["input"], row["output"], row["cache_read"]) == ("1", "5", "0.1")
    assert row["tiers"] == [
        {"above": 200, "input": "2", "output": "6"},
        {"above": 400, "input": "3", "output": "6"},
    ]


def test_a_price_that_begins_later_does_not_count_yet() -> None:
    prices = [
        {"prices": {"input_mtok": 1, "output_mtok": 1}},
        {"constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 9, "output_mtok": 9}},
    ]
    given = listed(model("gpt-9", prices))
    later = datetime(2026, 12, 1, tzinfo=UTC).timestamp()

    assert (found(given) or {})["input"] == "1"
    assert (found(given, at=later) or {})["input"] == "9"


@pytest.mark.parametrize("hour", [0, 2, 12, 23])
def test_of_a_price_that_differs_by_the_hour_the_dearest_counts(hour: int) -> None:
    prices = [
        {"prices": {"input_mtok": 1, "output_mtok": 2}},
        {
            "constraint": {"start_time": "01:00:00Z", "end_time": "04:00:00Z"},
            "prices": {"input_mtok": 2, "output_mtok": 4},
        },
    ]
    at = datetime(2026, 11, 22, hour, 30, tzinfo=UTC).timestamp()

    assert (found(listed(model("gpt-9", prices)), at=at) or {})["input"] == "2"


@pytest.mark.parametrize(
    ("prices", "name", "provider"),
    [
        ({"input_mtok": 0, "output_mtok": 0}, "gpt-9", "openai"),
        ({}, "gpt-9", "openai"),
        ({"input_mtok": 1}, "gpt-8", "openai"),
        ({"input_mtok": 1}, "gpt-9", "groq"),
        ({"input_mtok": 1}, "gpt-9", "node_1"),
    ],
)
def test_what_the_list_does_not_say_is_left_out(prices: dict[str, Any], name: str, provider: str) -> None:
    assert found(listed(model("gpt-9", prices)), name, provider) is None


@pytest.mark.parametrize(
    "given",
    [
        b"{",
        b"{}",
        b"null",
        b"[1]",
        b'[{"id": 1}]',
        listed(model("gpt-9", {"input_mtok": "many"})),
        listed({"id": "gpt-9", "match": {"sounds_like": "x"}, "prices": {}}),
    ],
)
def test_what_is_no_list_is_refused(given: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whoever finds the fault says it in his own words
        answer([("openai", "gpt-9")], NOON, given)


def test_a_note_is_one_printable_line() -> None:
    row = found(listed(model("gpt-9", {"input_mtok": 1}) | {"id": "x\n\x00" + "y" * 500}))

    assert row is not None
    assert row["note"].isprintable()
    assert len(row["note"]) == 200


def test_the_own_list_of_the_package_gives_usable_prices() -> None:
    catalogue = load()
    pairs = [(provider.id, name) for provider in catalogue for name in catalogue.models_of(provider.id)]
    told = answer(pairs, NOON)

    assert told["version"]
    assert len(told["rows"]) > 300
    for row in told["rows"]:
        known = {name: row.get(name) for name in PRICES}
        steps = tuple(PriceStep(**step) for step in row.get("tiers", ()))
        check(PriceRow(row["provider"], row["model"], "import", NOON, NOON, **known, tiers=steps))
        assert any(row.get(name) not in (None, "0") for name in PRICES)


def test_every_name_is_one_of_the_catalogue_and_of_the_package() -> None:
    from genai_prices.data import providers

    assert set(LISTED_AS) <= set(load().providers)
    assert set(LISTED_AS.values()) <= {provider.id for provider in providers}


def test_one_question_one_answer() -> None:
    asked = json.dumps({"pairs": [["openai", "gpt-9"]], "at": NOON}).encode()
    target = io.BytesIO()

    serve(io.BytesIO(asked + b"\n" + listed(model("gpt-9", {"input_mtok": 1}))), target)

    assert [row["input"] for row in json.loads(target.getvalue())["rows"]] == ["1"]


def test_no_server_holds_the_list() -> None:
    program = (
        "import sys\n"
        "import omniroute.factory, omniroute.services.price_sync, omniroute.cli.pricing, omniroute.runtime.jobs\n"
        "assert not [name for name in sys.modules if name.startswith(('genai_prices', 'pydantic'))]\n"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
