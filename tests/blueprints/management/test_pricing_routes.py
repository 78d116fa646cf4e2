"""Prices over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from omniroute.records import RequestRecord
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

KEYS_OF_A_ROW = {
    "provider",
    "model",
    "input",
    "output",
    "cached",
    "cacheWrite",
    "reasoning",
    "unit",
    "currency",
    "source",
    "priceId",
    "validFrom",
    "updatedAt",
}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def put(app: App, body: Any) -> list[dict[str, Any]]:
    response = app.admin.patch("/api/pricing", json=body)
    assert response.status_code == 200, response.get_json()
    document = response.get_json()
    assert document["changed"] == len(document["prices"])
    rows: list[dict[str, Any]] = document["prices"]
    return rows


def listed(app: App, query: str = "") -> list[dict[str, Any]]:
    document = app.admin.get(f"/api/pricing?limit=200&{query}").get_json()
    assert document["total"] >= len(document["prices"])
    rows: list[dict[str, Any]] = document["prices"]
    return rows


def faults(response: TestResponse) -> dict[str, str]:
    assert response.status_code == 400, response.get_json()
    return {detail["field"]: detail["message"] for detail in error_of(response)["details"]}


def audited(app: App) -> list[Any]:
    entries, _ = app.own.audit.entries(limit=100, action="pricing.changed")
    return [dict(entry.details) for entry in reversed(entries)]


def test_the_life_of_a_price(app: App) -> None:
    (before,) = listed(app, "provider=openai&model=gpt-4.1")
    assert set(before) == KEYS_OF_A_ROW
    assert (before["source"], before["input"], before["unit"], before["updatedAt"]) == ("builtin", 2, "1M", None)

    (made,) = put(app, {"openai": {"gpt-4.1": {"input": 1.5, "cached": "0.10"}}})
    assert (made["source"], made["input"], made["output"], made["cached"]) == ("override", 1.5, 8, 0.1)
    assert made["updatedAt"].endswith("Z")
    assert made["priceId"] != before["priceId"]
    assert listed(app, "source=override") == [made]
    assert listed(app, "provider=openai&model=gpt-4.1") == [made]

    (changed,) = put(app, {"openai": {"gpt-4.1": {"input": None}}})
    assert (changed["input"], changed["cached"]) == (2, 0.1)
    assert app.admin.delete("/api/pricing?provider=openai&model=gpt-4.1").get_json() == {"success": True, "deleted": 1}
    assert listed(app, "provider=openai&model=gpt-4.1") == [before]
    gone = app.admin.delete("/api/pricing?provider=openai&model=gpt-4.1")
    assert (gone.status_code, error_of(gone)["code"]) == (404, "not_found")
    names = ["openai/gpt-4.1"]
    assert audited(app) == [{"set": names, "count": 1}] * 2 + [{"reset": names, "count": 1}]


def test_taking_back_the_last_field_drops_the_price(app: App) -> None:
    put(app, {"openai": {"gpt-4.1": {"input": 1.5}}})

    (row,) = put(app, {"openai": {"gpt-4.1": {"input": None}}})

    assert row["source"] == "builtin"
    assert listed(app, "source=override") == []


def test_what_changes_nothing_is_not_a_change(app: App) -> None:
    put(app, {"openai": {"gpt-4.1": {"input": 1.5}}})
    assert put(app, {"openai": {"gpt-4.1": {"input": "1.50"}}}) == []
    assert put(app, {"openai": {"gpt-4.1-mini": {"input": None}}}) == []
    assert len(audited(app)) == 1


def test_prices_of_other_models_and_providers_in_one_call(app: App) -> None:
    rows = put(app, {"openai": {"gpt-99": {"perImage": 0.04}}, "groq": {"a/b:free": {"perRequest": 0}}})

    made = {(row["provider"], row["model"]): row for row in rows}
    assert set(made) == {("openai", "gpt-99"), ("groq", "a/b:free")}
    assert (made["openai", "gpt-99"]["perImage"], made["openai", "gpt-99"]["input"]) == (0.04, None)
    assert made["groq", "a/b:free"]["perRequest"] == 0


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"input": 0.1 + 0.2}, {"input": 0.3}),
        ({"input": "2.50", "output": 10}, {"input": 2.5, "output": 10}),
        ({"cache_creation": 1}, {"cacheWrite": 1}),
        ({"cacheRead": 0.5, "cacheWrite1h": 2}, {"cached": 0.5, "cacheWrite1h": 2}),
        ({"reasoning": 9, "audioInput": 1, "audioOutput": 2}, {"reasoning": 9, "audioInput": 1, "audioOutput": 2}),
        ({"perSecond": "0.0001", "perCharacter": 15}, {"perSecond": 0.0001, "perCharacter": 15}),
        ({"input": 1, "currency": "USD"}, {"input": 1}),
    ],
)
def test_fields_and_their_other_names(app: App, given: dict[str, Any], shown: dict[str, Any]) -> None:
    (row,) = put(app, {"openai": {"own-1": given}})

    assert {name: row[name] for name in shown} == shown


def test_prices_per_thousand(app: App) -> None:
    given = {"input": 0.0015, "perRequest": 0.5, "perCharacter": "0.015", "tiers": [{"above": 10, "input": 0.003}]}
    (row,) = put(app, {"openai": {"own-1": given}, "unit": "1K"})
    assert (row["unit"], row["input"], row["perRequest"], row["perCharacter"]) == ("1K", 0.0015, 0.5, 0.015)
    assert row["tiers"][0]["input"] == 0.003
    (per_million,) = listed(app, "source=override")
    assert (per_million["input"], per_million["perRequest"], per_million["perCharacter"]) == (1.5, 0.5, 15)
    (per_thousand,) = listed(app, "source=override&unit=1K")
    assert per_thousand == row


def test_tiers(app: App) -> None:
    tiers = [{"abovePromptTokens": 500, "output": "9"}, {"above": 100, "input": 2, "cached": 0.2}]
    (row,) = put(app, {"openai": {"own-1": {"input": 1, "tiers": tiers}}})
    assert row["tiers"] == [
        {"above": 100, "input": 2, "output": None, "cached": 0.2, "cacheWrite": None},
        {"above": 500, "input": None, "output": 9, "cached": None, "cacheWrite": None},
    ]
    (kept,) = put(app, {"openai": {"own-1": {"input": 3}}})
    assert kept["tiers"] == row["tiers"]
    nothing: tuple[list[Any] | None, ...] = (None, [])
    for none in nothing:
        put(app, {"openai": {"own-1": {"tiers": tiers}}})
        (flat,) = put(app, {"openai": {"own-1": {"tiers": none}}})
        assert "tiers" not in flat


def test_nodes_and_other_names_of_providers(app: App) -> None:
    node = {
        "name": "Own",
        "prefix": "own",
        "type": "openai-compatible",
        "baseUrl": "http://127.0.0.1:9/v1",
        "isLocal": True,
    }
    node_id = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]["id"]

    rows = put(app, {"own": {"m": {"input": 1, "output": 2}}, "cc": {"claude-new": {"input": 3}}})

    assert {row["provider"] for row in rows} == {node_id, "claude"}
    assert [row["model"] for row in listed(app, "provider=own")] == ["m"]
    assert app.admin.delete(f"/api/provider-nodes/{node_id}").status_code == 200
    assert app.admin.get(f"/api/pricing?provider={node_id}").status_code == 400, "neither it nor a price of it is left"


def test_the_price_is_what_the_next_request_costs(app: App) -> None:
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}
    put(app, {"sandbox": {"echo": {"input": 1000, "output": 2000}}})

    answered = app.client().post("/v1/chat/completions", json=body)

    assert answered.headers["X-OmniRoute-Cost-Kind"] == "billed"
    usage = answered.get_json()["usage"]
    cost = usage["prompt_tokens"] * 0.001 + usage["completion_tokens"] * 0.002
    assert float(answered.headers["X-OmniRoute-Response-Cost"]) == pytest.approx(cost)


def test_the_list_of_models_shows_the_price_in_force(app: App) -> None:
    def shown() -> dict[str, Any]:
        models = app.client().get("/v1/models").get_json()["data"]
        found: dict[str, Any] = next(model for model in models if model["id"] == "sandbox/echo")
        return found

    assert shown()["free"] is True
    put(app, {"sandbox": {"echo": {"input": 1.25, "output": 2}}})
    assert shown()["pricing"] == {"input": 1.25, "output": 2.0}
    assert "free" not in shown()


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ({"input": -1}, "must be from 0 to 1000000 USD"),
        ({"input": 1_000_001}, "must be from 0 to 1000000 USD"),
        ({"input": "1e12"}, "must be from 0 to 1000000 USD"),
        ({"input": "NaN"}, "must be from 0 to 1000000 USD"),
        ({"input": "Infinity"}, "must be from 0 to 1000000 USD"),
        ({"input": "a lot"}, "must be a number or decimal text"),
        ({"input": True}, "must be a number or decimal text"),
        ({"input": [1]}, "must be a number or decimal text"),
        ({"input": "0.0000000001"}, "must have at most 9 decimals"),
    ],
)
def test_what_is_no_price_is_refused(app: App, price: dict[str, Any], message: str) -> None:
    response = app.admin.patch("/api/pricing", json={"openai": {"gpt-4.1": price}})

    assert faults(response) == {"openai.gpt-4.1.input": message}
    assert listed(app, "source=override") == []


@pytest.mark.parametrize(
    "raw", ['{"openai": {"gpt-4.1": {"input": NaN}}}', '{"openai": {"gpt-4.1": {"input": -Infinity}}}']
)
def test_numbers_that_json_does_not_have_are_refused(app: App, raw: str) -> None:
    response = app.admin.patch("/api/pricing", data=raw, content_type="application/json")

    assert response.status_code == 400
    assert "not a JSON number" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"openai": {"gpt-4.1": {"inptu": 1}}}, "openai.gpt-4.1.inptu"),
        ({"openai": {"gpt-4.1": {}}}, "openai.gpt-4.1"),
        ({"openai": {"gpt-4.1": 3}}, "openai.gpt-4.1"),
        ({"openai": {"": {"input": 1}}}, "openai."),
        ({"openai": {"a\nb": {"input": 1}}}, "openai.a?b"),
        ({"openai": {"m" * 241: {"input": 1}}}, f"openai.{'m' * 193}"),
        ({"openai": 3}, "openai"),
        ({"openai": {}}, "openai"),
        ({"nobody": {"m": {"input": 1}}}, "nobody"),
        ({"claude": {"m": {"input": 1}}, "cc": {"m": {"input": 2}}}, "claude.m"),
        ({"openai": {"m": {"input": 1}}, "currency": "EUR"}, "currency"),
        ({"openai": {"m": {"input": 1, "currency": "EUR"}}}, "openai.m.currency"),
        ({"openai": {"m": {"input": 1}}, "unit": "1G"}, "unit"),
        ({"openai": {"m": {"input": 1}}, "unit": 5}, "unit"),
        ({"unit": "1M"}, ""),
        ({}, ""),
        ({"openai": {"m": {"tiers": [{"above": 0, "input": 1}]}}}, "openai.m.tiers.above"),
        ({"openai": {"m": {"tiers": [{"input": 1}]}}}, "openai.m.tiers.above"),
        ({"openai": {"m": {"tiers": [{"above": 5}]}}}, "openai.m"),
        ({"openai": {"m": {"tiers": [{"above": 5, "input": 1}, {"above": 5, "input": 2}]}}}, "openai.m"),
        ({"openai": {"m": {"tiers": [{"above": 5, "input": -1}]}}}, "openai.m.tiers.input"),
        ({"openai": {"m": {"tiers": [{"above": 5, "reasoning": 1}]}}}, "openai.m.tiers.reasoning"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_named(app: App, body: Any, field: str) -> None:
    assert set(faults(app.admin.patch("/api/pricing", json=body))) == {field}
    assert listed(app, "source=override") == []


def test_one_fault_spoils_the_whole_change(app: App) -> None:
    body = {"openai": {"a": {"input": 1}, "b": {"input": -1}}, "nobody": {"m": {"input": 1}}}

    assert set(faults(app.admin.patch("/api/pricing", json=body))) == {"openai.b.input"}
    assert listed(app, "source=override") == []


def test_a_change_has_a_bound(app: App) -> None:
    body = {"openai": {f"m{number}": {"input": 1} for number in range(1001)}}

    assert faults(app.admin.patch("/api/pricing", json=body)) == {"": "must have at most 1000 models"}


@pytest.mark.parametrize("query", ["unit=2M", "sort=colour", "limit=0", "unpriced=maybe"])
def test_queries_that_cannot_be_meant_are_refused(app: App, query: str) -> None:
    assert app.admin.get(f"/api/pricing?{query}").status_code == 400


def test_a_provider_must_be_named_to_drop_prices(app: App) -> None:
    assert faults(app.admin.delete("/api/pricing")) == {"provider": "is required"}
    assert app.admin.delete("/api/pricing?provider=openai").status_code == 404
    put(app, {"openai": {"a": {"input": 1}, "b": {"input": 1}}, "groq": {"c": {"input": 1}}})
    assert app.admin.delete("/api/pricing?provider=openai").get_json()["deleted"] == 2
    assert [row["model"] for row in listed(app, "source=override")] == ["c"]


def test_who_may(app: App) -> None:
    assert app.client(app.key()).get("/api/pricing").status_code == 403
    assert app.client(address="192.0.2.9").get("/api/pricing").status_code in (401, 403)


# --- lists ---------------------------------------------------------------------------------------------------------


def test_lists_are_paged_searched_and_sorted(app: App) -> None:
    whole = app.admin.get("/api/pricing?limit=3&offset=2").get_json()
    assert (len(whole["prices"]), whole["limit"], whole["offset"]) == (3, 3, 2)
    assert whole["total"] > 1300
    assert {row["provider"] for row in listed(app, "q=claude-opus&provider=anthropic")} == {"anthropic"}
    assert {row["provider"] for row in listed(app, "q=OPENAI/gpt-4.1-m")} == {"openai"}
    for query in ("provider=nobody", "provider=nobody&unpriced=true"):
        assert error_of(app.admin.get(f"/api/pricing?{query}"))["details"][0]["field"] == "provider"
    put(app, {"openai": {"gpt-4.1": {"input": 1}}})
    assert listed(app, "sort=-updatedAt")[0]["model"] == "gpt-4.1"


def test_the_defaults_stay_what_they_are(app: App) -> None:
    put(app, {"openai": {"gpt-4.1": {"input": 1}}})

    (row,) = app.admin.get("/api/pricing/defaults?provider=openai&model=gpt-4.1").get_json()["prices"]

    assert (row["input"], row["source"]) == (2, "builtin")


def test_what_was_used_without_a_price(app: App) -> None:
    now = app.own.prices._now()
    used = {"a": ("groq", "new-1", 0), "b": ("sandbox", "echo", 0), "c": ("groq", "old-1", 40 * 86_400)}
    for name, (provider, model, age) in used.items():
        app.own.request_log.put(
            RequestRecord(f"req_{name}", now - age, "/v1/x", "openai_chat", "m", 200, "success", None, model, provider)
        )
    app.own.request_log.flush()

    (row,) = app.admin.get("/api/pricing?unpriced=true").get_json()["prices"]
    assert (row["provider"], row["model"], row["requests"], row["input"], row["source"]) == (
        "groq",
        "new-1",
        1,
        None,
        None,
    )
    put(app, {"groq": {"new-1": {"input": 1}}})
    assert app.admin.get("/api/pricing?unpriced=true").get_json()["prices"] == []
