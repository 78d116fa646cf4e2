"""`/api/settings`: shown, changed as a whole or not at all, and what comes of a change at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.services.setting_definitions import BY_NAME, Tab, in_section
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

PATH = "/api/settings"


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    level = logging.getLogger().level
    with whole_app(settings) as built:
        yield built
    logging.getLogger().setLevel(level)


def change(app: App, **body: Any) -> dict[str, Any]:
    response = app.admin.patch(PATH, json=body)
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()["settings"]
    return found


def refused(app: App, **body: Any) -> tuple[int, dict[str, Any]]:
    response = app.admin.patch(PATH, json=body)
    return response.status_code, error_of(response)


def test_every_tab_is_shown(app: App) -> None:
    body = app.admin.get(PATH).get_json()
    assert set(body["settings"]) == {*(tab.value for tab in Tab), "routing", "resilience", "budgets"}
    for tab in Tab:
        assert list(body["settings"][tab]) == [row.name for row in in_section(tab)]
    assert body["settings"]["resilience"] == app.admin.get("/api/resilience").get_json()
    assert body["settings"]["security"]["requireLogin"] is True
    assert body["version"] > 0


def test_a_setting_is_changed_by_section_or_by_its_name_and_given_back_by_null(app: App) -> None:
    assert change(app, advanced={"connectTimeoutMs": 77})["advanced"]["connectTimeoutMs"] == 77
    assert change(app, connectTimeoutMs=78, stickyLimit=6)["advanced"]["connectTimeoutMs"] == 78
    entries, _ = app.own.audit.entries(limit=2, action="settings.changed")
    assert [(row.target_id, row.details) for row in reversed(entries)] == [
        ("advanced", {"connectTimeoutMs": [77, 78]}),
        ("routing", {"stickyLimit": [3, 6]}),
    ]
    assert change(app, advanced={"connectTimeoutMs": None})["advanced"]["connectTimeoutMs"] == 10_000
    before = app.own.audit.entries(limit=1)[1]
    change(app, connectTimeoutMs=10_000)
    assert app.own.audit.entries(limit=1)[1] == before, "a change to what holds already is none"


@pytest.mark.parametrize(
    "body",
    [
        {"colour": "red"},
        {"advanced": {"colour": "red"}},
        {"general": {"logLevel": "debug"}},
        {"logLevel": "loud"},
        {"advanced": {"connectTimeoutMs": 0}},
        {"advanced": {"streamReadinessTimeoutMs": 200_000}},
        {"streamReadinessMaxTimeoutMs": 5},
        {"general": {"timeZone": "Nowhere"}},
        {"requireLogin": False},
        {"routing": {"providers": {"nobody": {}}}},
        {"resilience": {"requestQueue": {"maxWaitMs": -1}}},
        {"unpriced": "maybe"},
    ],
)
def test_one_part_that_is_wrong_keeps_all_of_it_from_being_changed(app: App, body: dict[str, Any]) -> None:
    before = app.admin.get(PATH).get_json()
    status, error = refused(app, **{"answerTimeoutMs": 5, **body})
    assert (status, error["code"]) == (400, "validation_failed")
    assert error["details"][0]["field"]
    assert app.admin.get(PATH).get_json() == before
    assert app.own.audit.entries(limit=1, action="settings.changed")[1] == 0


def test_the_ends_of_a_wait_may_be_moved_together(app: App) -> None:
    changed = change(app, streamReadinessTimeoutMs=200_000, streamReadinessMaxTimeoutMs=300_000)
    assert changed["advanced"]["streamReadinessMaxTimeoutMs"] == 300_000


def test_settings_of_security_need_an_admin(app: App) -> None:
    app.own.access_tokens  # noqa: B018 -- the tokens of this application
    token = app.admin.post("/api/cli/tokens", json={"name": "w", "scope": "write"}).get_json()["token"]
    client = app.client(token)
    assert client.patch(PATH, json={"logLevel": "warning"}).status_code == 200
    response = client.patch(PATH, json={"requireApiKey": True, "logLevel": "error"})
    assert (response.status_code, error_of(response)["details"]) == (403, {"held": "write", "required": "admin"})
    assert app.admin.get(PATH).get_json()["settings"]["advanced"]["logLevel"] == "warning"


def test_what_the_environment_decides_is_refused_by_name(settings: Settings) -> None:
    sources = {"app_log_level": "APP_LOG_LEVEL in the environment", "require_api_key": "REQUIRE_API_KEY in x"}
    fixed = {"app_log_level": "error", "require_api_key": True, "rate_limit_max_wait_ms": 7}
    with whole_app(settings, sources=sources, **fixed) as app:
        status, error = refused(app, logLevel="debug", connectTimeoutMs=5)
        assert (status, error["code"]) == (409, "fixed_by_environment")
        assert error["details"] == {"fixed": {"advanced.logLevel": "APP_LOG_LEVEL"}}
        assert "APP_LOG_LEVEL" in error["message"]
        assert refused(app, requireApiKey=False)[1]["details"] == {
            "fixed": {"security.requireApiKey": "REQUIRE_API_KEY"}
        }
        assert refused(app, resilience={"requestQueue": {"maxWaitMs": 8}})[0] == 409
        shown = app.admin.get(PATH).get_json()["settings"]
        assert (shown["advanced"]["logLevel"], shown["advanced"]["connectTimeoutMs"]) == ("error", 10_000)
        assert change(app, logLevel="error")["advanced"]["logLevel"] == "error", "what holds already may be sent back"
        row = next(
            one
            for one in app.admin.get(f"{PATH}/fields?q=loglevel").get_json()["fields"]
            if one["path"] == "advanced.logLevel"
        )
        assert (row["source"], row["fixedBy"], row["value"], row["default"]) == (
            "env",
            "APP_LOG_LEVEL",
            "error",
            "info",
        )


def test_the_fields_say_where_they_come_from(app: App) -> None:
    change(app, callLogMaxRows=5)
    body = app.admin.get(f"{PATH}/fields").get_json()
    assert body["total"] == len(body["fields"]) == len(BY_NAME)
    by_path = {row["path"]: row for row in body["fields"]}
    assert by_path["general.callLogMaxRows"]["source"] == "db"
    assert by_path["general.callLogMaxRows"]["variable"] == "CALL_LOG_MAX_ROWS"
    assert by_path["security.requireLogin"]["isReadOnly"] is True
    assert [row["path"] for row in app.admin.get(f"{PATH}/fields?q=colours").get_json()["fields"]] == [
        "appearance.theme"
    ]


# --- what comes of it ------------------------------------------------------------------------------------------------


def test_the_log_level_changes_at_once(app: App) -> None:
    change(app, logLevel="error")
    assert logging.getLogger().level == logging.ERROR
    change(app, logLevel=None)
    assert logging.getLogger().level == logging.INFO


def test_time_limits_hold_for_the_next_request(app: App) -> None:
    change(app, connectTimeoutMs=1234, requestTimeoutMs=5000, sseHeartbeatMs=2000)
    clocks = app.own.inference.clocks
    assert (clocks.stream.connect_s, clocks.stream.total_s, clocks.heartbeat_s) == (1.234, 5.0, 2.0)
    change(app, requestTimeoutMs=None)
    assert app.own.inference.clocks.stream.total_s == 3600.0


def test_the_assumed_window_is_compiled_anew(app: App) -> None:
    directory = app.own.directories
    provider = directory.current.provider("ollama-cloud")
    assert provider is not None
    assert directory.current.context_of(provider, None).tokens == 128_000
    change(app, contextLengthDefault=32_000)
    assert directory.current.context_of(provider, None).tokens == 32_000


def test_lists_name_models_as_it_is_set(app: App) -> None:
    def ids() -> set[str]:
        return {row["id"] for row in app.client().get("/v1/models").get_json()["data"]}

    app.admin.post("/api/providers", json={"provider": "deepseek", "apiKey": "k" * 30, "name": "d"})
    short = ids()
    change(app, modelPrefix="dual")
    assert short < ids()
    assert {row["id"] for row in app.client().get("/v1/models?prefix=alias").get_json()["data"]} == short


def test_loopback_callers_need_a_key_as_it_is_set(app: App) -> None:
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}
    change(app, requireApiKeyForModels=True)
    assert app.client().get("/v1/models").status_code == 401
    assert app.client(app.key()).get("/v1/models").status_code == 200
    assert app.client().post("/v1/chat/completions", json=body).status_code == 200
    change(app, requireApiKeyForModels=None, requireApiKey=True)
    assert app.client().post("/v1/chat/completions", json=body).status_code == 401
    change(app, requireApiKey=False)
    assert app.client().get("/v1/models").status_code == 200


def test_protection_against_guessing_stays_on_where_others_reach_the_port(settings: Settings, app: App) -> None:
    assert change(app, bruteForceProtection=False)["security"]["bruteForceProtection"] is False
    client = app.client(address="198.51.100.7")
    codes = {client.post("/api/auth/login", json={"password": "wrong password"}).status_code for _ in range(7)}
    assert codes == {401}


def test_it_cannot_be_switched_off_there(settings: Settings) -> None:
    with whole_app(settings, host="0.0.0.0") as app:
        status, error = refused(app, bruteForceProtection=False)
        assert (status, error["details"][0]["field"]) == (400, "security.bruteForceProtection")


def test_budgets_begin_in_the_zone_that_is_set(app: App) -> None:
    change(app, timeZone="Asia/Tokyo")
    made = app.admin.post("/api/usage/budget", json={"keyId": "*", "limit": 1, "period": "daily"}).get_json()
    assert made["budgets"][0]["timeZone"] == "Asia/Tokyo"
    other = {"keyId": "*", "limit": 1, "period": "weekly", "timeZone": "UTC"}
    assert {one["timeZone"] for one in app.admin.post("/api/usage/budget", json=other).get_json()["budgets"]} == {
        "Asia/Tokyo",
        "UTC",
    }


def test_what_is_kept_and_how_often_providers_are_asked(app: App) -> None:
    change(app, callLogRetentionDays=3, providerLimitsSyncIntervalMinutes=0)
    current = app.own.in_force.current
    assert (current.call_log_retention_days, current.provider_limits_sync_interval_minutes) == (3, 0)
    app.own.quotas.run_due()
    app.own.retention.apply()


def test_pages_look_as_it_is_set(app: App) -> None:
    change(app, theme="dark", refreshIntervalSec=3, instanceName="north <one>")
    page = app.client().get("/login").get_data(as_text=True)
    assert 'data-theme="dark"' in page
    assert 'data-refresh-s="3"' in page
    assert "north &lt;one&gt;" in page


def test_the_settings_of_another_worker_hold_here_too(app: App, settings: Settings) -> None:
    with whole_app(settings) as other:
        change(other, answerTimeoutMs=4321)
        app.own.snapshots.poll_once()
        assert app.own.inference.clocks.answer.total_s == 4.321


def test_a_field_says_what_it_takes(app: App) -> None:
    rows = {row["name"]: row for row in app.admin.get(f"{PATH}/fields").get_json()["fields"]}
    assert set(rows) == set(BY_NAME)
    assert rows["density"]["choices"] == ["comfortable", "compact"]
    assert (rows["density"]["minimum"], rows["density"]["maximum"]) == (None, None)
    assert (rows["refreshIntervalSec"]["minimum"], rows["refreshIntervalSec"]["maximum"]) == (0, 3600)
    assert (rows["instanceName"]["choices"], rows["instanceName"]["maximum"]) == ([], None)
