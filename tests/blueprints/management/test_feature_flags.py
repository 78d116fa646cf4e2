"""`/api/settings/feature-flags`: what can be switched, and that it does something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

PATH = "/api/settings/feature-flags"
CHAT = {"model": "sandbox/echo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


def flags(app: App) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in app.admin.get(PATH).get_json()["flags"]}


def put(app: App, **values: Any) -> dict[str, dict[str, Any]]:
    response = app.admin.put(PATH, json={"flags": values})
    assert response.status_code == 200, response.get_json()
    return {row["key"]: row for row in response.get_json()["flags"]}


def test_flags_are_listed_set_and_given_back(app: App) -> None:
    assert {key: row["value"] for key, row in flags(app).items()} == {
        "sseComments": True,
        "metrics": False,
        "publicPriceList": False,
        "hedging": True,
        "midStreamContinuation": True,
    }
    assert flags(app)["metrics"]["requiresRestart"] is True
    changed = put(app, hedging=False, metrics=True)
    assert (changed["hedging"]["value"], changed["hedging"]["source"]) == (False, "db")
    one = app.admin.delete(f"{PATH}?key=hedging").get_json()["flags"]
    assert {row["key"]: row["source"] for row in one if row["source"] == "db"} == {"metrics": "db"}
    rest = app.admin.delete(PATH).get_json()["flags"]
    assert {row["source"] for row in rest} == {"default"}
    entries, _ = app.own.audit.entries(limit=3, action="settings.changed")
    assert [row.details for row in reversed(entries)] == [
        {"hedging": [True, False], "metrics": [False, True]},
        {"hedging": [False, True]},
        {"metrics": [True, False]},
    ]


def test_what_is_no_flag_is_refused(app: App) -> None:
    for body in ({"flags": {"colour": True}}, {"flags": {"hedging": "off"}}, {"hedging": False}, {}):
        assert error_of(app.admin.put(PATH, json=body))["code"] == "validation_failed"
    assert app.admin.delete(f"{PATH}?key=colour").status_code == 404


def test_what_a_variable_decides_stays(settings: Settings) -> None:
    with whole_app(settings, sources={"sse_comments": "x"}, sse_comments=False) as app:
        assert flags(app)["sseComments"]["fixedBy"] == "OMNIROUTE_SSE_COMMENTS"
        response = app.admin.put(PATH, json={"flags": {"sseComments": True, "hedging": False}})
        assert (response.status_code, error_of(response)["code"]) == (409, "fixed_by_environment")
        assert flags(app)["hedging"]["value"] is True
        assert app.admin.delete(PATH).status_code == 200
        assert app.admin.delete(f"{PATH}?key=sseComments").status_code == 409


def test_streams_have_no_comments_once_they_are_off(app: App) -> None:
    assert ": x-omniroute-model=" in app.client().post("/v1/chat/completions", json=CHAT).get_data(as_text=True)
    put(app, sseComments=False)
    assert "\n: " not in app.client().post("/v1/chat/completions", json=CHAT).get_data(as_text=True)


def test_no_combo_hedges_while_that_is_off(app: App) -> None:
    config = {"hedging": True, "midStreamContinuation": True}
    made = app.admin.post("/api/combos", json={"name": "c", "models": ["sandbox/echo"], "config": config}).get_json()

    def found() -> tuple[bool, bool]:
        block = app.own.routing.resolvers.current.block_of(app.own.combos.get(made["id"]))
        return block.config.hedging, block.config.mid_stream_continuation

    assert found() == (True, True)
    put(app, hedging=False)
    assert found() == (False, True)
    put(app, midStreamContinuation=False, hedging=None)
    assert found() == (True, False)
    app.admin.put("/api/settings/combo-defaults", json={"config": {"hedging": True}})
    put(app, hedging=False)
    resolver = app.own.routing.resolvers.current
    assert resolver.defaults.levels()[0] == ("flag", {"hedging": False, "midStreamContinuation": False})
    assert app.client().post("/v1/chat/completions", json={**CHAT, "model": "c"}).status_code == 200


def test_the_public_price_list_is_read_once_it_is_on(app: App) -> None:
    assert app.admin.get("/api/pricing/sync").get_json()["enabled"] is False
    put(app, publicPriceList=True)
    state = app.admin.get("/api/pricing/sync").get_json()
    assert state["enabled"] is True
    assert state["url"].startswith("https://")


def test_metrics_are_there_after_a_restart(settings: Settings, app: App) -> None:
    put(app, metrics=True)
    assert app.client().get("/metrics").status_code == 404
    with whole_app(settings) as restarted:
        assert restarted.client().get("/metrics").status_code == 200
