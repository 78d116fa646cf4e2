"""`/api/combos` over HTTP: steps, checks, order, tests, metrics, channels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.records import RequestRecord
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import Received, answer, fake_upstream

KEY = "sk-live-0123456789abcdefghij"
WHOLE = answer(json.dumps({"id": "1", "choices": [{"message": {"content": "hi"}}], "usage": {}}).encode())

DENIED = answer(b'{"error": {"message": "no"}}', status=401)


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        create(built, "base", "sandbox/echo")
        yield built


def create(app: App, name: str, *models: Any, **fields: Any) -> dict[str, Any]:
    response = app.admin.post("/api/combos", json={"name": name, "models": list(models), **fields})
    assert response.status_code == 201, response.get_json()
    made: dict[str, Any] = response.get_json()
    return made


def refused(app: App, **body: Any) -> dict[str, Any]:
    response = app.admin.post("/api/combos", json={"name": "x", "models": ["sandbox/echo"], **body})
    assert response.status_code == 400, response.get_json()
    return error_of(response)


def actions(app: App) -> list[str]:
    entries, _ = app.own.audit.entries(limit=100)
    return [entry.action for entry in reversed(entries)]


def test_the_life_of_a_combo(app: App) -> None:
    made = create(
        app,
        "fast [1m]",
        "sandbox/echo",
        {"model": "sandbox/story", "weight": 2.5, "label": "Story", "tags": ["a"], "enabled": False},
        strategy="weighted",
        config={"maxRetries": 3},
        description="Two of them",
        allowedProviders=["sandbox"],
        allowedModelFamilies=["echo"],
        context_length=9000,
    )
    assert (made["name"], made["strategy"], made["config"], made["sortOrder"]) == (
        "fast [1m]",
        "weighted",
        {"maxRetries": 3},
        0,
    )
    assert (made["isActive"], made["isDefault"], made["context_length"]) == (True, False, 9000)
    assert made["computedContextLength"] == 128_000
    first, second = made["models"]
    assert (first["kind"], first["model"], first["weight"], first["enabled"]) == ("model", "sandbox/echo", 1.0, True)
    assert (second["weight"], second["label"], second["tags"], second["enabled"]) == (2.5, "Story", ["a"], False)
    assert [warning["code"] for warning in made["warnings"]] == ["STEP_UNAVAILABLE"]
    path = f"/api/combos/{made['id']}"
    shown = app.admin.get(path).get_json()
    assert [(one["step"], one["model"], one["health"], one["usable"]) for one in shown.pop("targets")] == [
        (1, "sandbox/echo", "ok", 1),
        (2, "sandbox/story", "disabled", 0),
    ]
    assert shown == made
    assert app.admin.get("/api/combos").get_json()["combos"] == [made]
    changed = app.admin.patch(path, json={"name": "slow", "config": {}, "isActive": False}).get_json()
    assert (changed["name"], changed["config"], changed["isActive"]) == ("slow", {}, False)
    assert changed["models"] == made["models"]
    assert app.admin.delete(path).get_json()["success"] is True
    assert error_of(app.admin.get(path))["code"] == "not_found"
    assert error_of(app.admin.delete(path))["code"] == "not_found"
    assert actions(app)[-3:] == ["combo.created", "combo.updated", "combo.deleted"]


def test_a_write_is_in_force_at_once(app: App) -> None:
    before = app.own.snapshots.current.version
    create(app, "mine", "sandbox/echo")
    assert app.own.snapshots.current.version == before + 1
    body = {"messages": [{"role": "user", "content": "hello"}]}
    for model in ("mine", "combo/mine"):
        answered = app.client().post("/v1/chat/completions", json={"model": model, **body})
        assert answered.status_code == 200
        assert answered.get_json()["choices"][0]["message"]["content"] == "hello"
    without = app.client().post("/v1/chat/completions", json=body)
    assert (without.status_code, without.headers["X-OmniRoute-Error-Code"]) == (400, "missing_field")


def test_unchanged_steps_keep_their_ids(app: App) -> None:
    create(app, "other", "sandbox/echo")
    made = create(app, "c", "sandbox/echo", "sandbox/story", {"kind": "combo-ref", "comboName": "other"})
    echo, story, other = (step["id"] for step in made["models"])
    path = f"/api/combos/{made['id']}"

    def ids(*models: Any) -> list[str]:
        response = app.admin.put(path, json={"models": list(models)})
        assert response.status_code == 200, response.get_json()
        return [step["id"] for step in response.get_json()["models"]]

    new = ids({"kind": "combo-ref", "comboName": "other", "weight": 5}, "sandbox/new", "sandbox/echo")
    assert (new[0], new[2]) == (other, echo)
    assert new[1] not in (echo, story, other)
    edited = ids({"id": echo, "model": "sandbox/tools"}, {"id": "step_of_nobody", "model": "sandbox/x"}, "sandbox/new")
    assert (edited[0], edited[2]) == (echo, new[1])
    assert edited[1].startswith("step_")
    assert edited[1] != "step_of_nobody"
    twice = ids({"id": echo, "model": "sandbox/a"}, {"id": echo, "model": "sandbox/b"}, "sandbox/a")
    assert len(set(twice)) == 3


def test_names_stand_for_what_they_are(app: App) -> None:
    create(app, "inner", "sandbox/echo")
    steps = create(app, "outer", "combo/inner", "inner", "auto/fast", {"model": "auto"})["models"]
    assert [(step["kind"], step.get("comboName") or step.get("channel")) for step in steps] == [
        ("combo-ref", "inner"),
        ("combo-ref", "inner"),
        ("auto", "auto/fast"),
        ("auto", "auto"),
    ]


@pytest.mark.parametrize(
    "name", ["", " ", "a" * 101, "auto", "auto/x", "combo/x", "models/x", "a:b", "ä\x00", "a\nb", "x*", "<b>"]
)
def test_names_that_cannot_be(shared: App, name: str) -> None:
    error = refused(shared, name=name)
    assert error["code"] in ("combo_name_invalid", "validation_failed")
    assert error["code"] == "combo_name_invalid" or "\x00" in name or "\n" in name


@pytest.mark.parametrize("name", ["a", "a" * 100, "GPT 5 [1m]", "x/y-z_1.2", "combo", "günstig", "openai/gpt-5"])
def test_names_that_can_be(shared: App, name: str) -> None:
    made = create(shared, name, "sandbox/echo")
    assert made["name"] == name
    shared.admin.delete(f"/api/combos/{made['id']}")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"name": "base"}, "combo_name_taken", "name"),
        ({"models": []}, "combo_empty", "models"),
        ({"models": "sandbox/echo"}, "validation_failed", "models"),
        ({"models": [{}]}, "validation_failed", "models[0].model"),
        ({"models": [7]}, "validation_failed", "models"),
        ({"models": [""]}, "validation_failed", "models"),
        ({"models": ["a"] * 101}, "validation_failed", "models"),
        ({"models": [{"model": "a", "wieght": 1}]}, "validation_failed", "models"),
        ({"models": [{"model": "a", "weight": 101}]}, "validation_failed", "models"),
        ({"models": [{"model": "a", "weight": -1}]}, "validation_failed", "models"),
        ({"models": [{"model": "a", "provider": "nobody"}]}, "validation_failed", "models[0].provider"),
        ({"models": ["a", {"model": "a", "connectionId": "conn_x"}]}, "validation_failed", "models[1].connectionId"),
        ({"models": [{"kind": "combo-ref", "comboName": "nobody"}]}, "validation_failed", "models[0].comboName"),
        ({"models": ["combo/nobody"]}, "validation_failed", "models[0].comboName"),
        ({"models": [{"kind": "auto", "channel": "auto/magic"}]}, "validation_failed", "models[0].channel"),
        ({"models": [{"kind": "spell"}]}, "validation_failed", "models"),
        ({"models": [{"kind": "combo-ref", "comboName": "x"}]}, "combo_cycle", "models"),
        ({"strategy": "magic"}, "validation_failed", "strategy"),
        ({"config": {"maxRetires": 1}}, "validation_failed", "config.maxRetires"),
        ({"config": {"maxRetries": 11}}, "validation_failed", "config.maxRetries"),
        ({"allowedProviders": ["nobody"]}, "validation_failed", "allowedProviders"),
        ({"context_length": 999}, "validation_failed", "context_length"),
        ({"colour": "red"}, "validation_failed", "colour"),
        ({"isActive": 1}, "validation_failed", "isActive"),
    ],
)
def test_what_is_wrong_is_named(shared: App, body: dict[str, Any], code: str, field: str) -> None:
    error = refused(shared, **body)
    assert error["code"] == code, error
    assert [detail["field"] for detail in error["details"]] == [field]
    assert [combo["name"] for combo in shared.admin.get("/api/combos").get_json()["combos"]] == ["base"]


@pytest.mark.parametrize(
    ("body", "idle"),
    [
        ({"system_message": "Be kind."}, {"system_message": ""}),
        ({"tool_filter_regex": "^a"}, {"tool_filter_regex": None}),
        ({"context_cache_protection": True}, {"context_cache_protection": False}),
        ({"config": {"handoffModel": "sandbox/echo"}}, {"config": {"handoffModel": None}}),
        ({"config": {"maxMessagesForSummary": 5}}, {"config": {"maxMessagesForSummary": 30}}),
        ({"models": [{"model": "a", "prompt": "Hi"}]}, {"models": [{"model": "a", "prompt": None}]}),
    ],
)
def test_what_nothing_acts_on_is_refused(app: App, body: dict[str, Any], idle: dict[str, Any]) -> None:
    error = refused(app, **body)
    assert error["code"] == "not_supported"
    assert app.admin.post("/api/combos", json={"name": "x", "models": ["a"], **idle}).status_code == 201


def test_a_name_that_is_a_models_is_told(app: App) -> None:
    for name, provider in (
        ("sandbox/echo", "sandbox"),
        ("echo", "sandbox"),
        ("anthropic/claude-opus-4-7", "anthropic"),
    ):
        warning = create(app, name, "sandbox/story")["warning"]
        assert warning["code"] == "COMBO_NAME_SHADOWS_MODEL"
        assert (warning["modelId"], warning["providerId"]) == (name.rpartition("/")[2], provider)
    assert "warning" not in create(app, "plain", "sandbox/story")
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Q"}]}
    answered = app.client().post("/v1/chat/completions", json=body)
    assert answered.headers["X-OmniRoute-Model"] == "sandbox/story"


def test_circles_and_depth_are_found_wherever_they_arise(app: App) -> None:
    def reference(name: str) -> dict[str, str]:
        return {"kind": "combo-ref", "comboName": name}

    one = create(app, "one", "sandbox/echo")
    create(app, "two", reference("one"))
    three = create(app, "three", reference("two"), "sandbox/echo")
    error = error_of(app.admin.put(f"/api/combos/{one['id']}", json={"models": [reference("three")]}))
    assert error["code"] == "combo_cycle"
    assert "one → three → two → one" in error["message"]
    assert refused(app, name="four", models=[reference("three")])["code"] == "combo_depth"
    create(app, "zero", "sandbox/echo")
    deeper = error_of(app.admin.put(f"/api/combos/{one['id']}", json={"models": [reference("zero")]}))
    assert (deeper["code"], "'three'" in deeper["message"]) == ("combo_depth", True)
    create(app, "four", reference("three"), config={"maxComboDepth": 4})
    narrow = error_of(app.admin.put(f"/api/combos/{three['id']}", json={"config": {"maxComboDepth": 2}}))
    assert narrow["code"] == "combo_depth"


def test_references_follow_a_new_name_and_guard_against_removal(app: App) -> None:
    inner = create(app, "inner", "sandbox/echo")
    create(app, "outer", {"kind": "combo-ref", "comboName": "inner"})
    path = f"/api/combos/{inner['id']}"
    app.admin.put(path, json={"name": "renamed"})

    def steps() -> list[Any]:
        outer = next(c for c in app.admin.get("/api/combos").get_json()["combos"] if c["name"] == "outer")
        return [step["comboName"] for step in outer["models"]]

    assert steps() == ["renamed"]
    refusal = app.admin.delete(path)
    assert (refusal.status_code, error_of(refusal)["code"]) == (409, "in_use")
    assert error_of(refusal)["details"] == {"usedBy": ["outer"]}
    assert app.admin.delete(f"{path}?force=true").status_code == 200
    outer = app.admin.get("/api/combos?q=outer").get_json()["combos"][0]
    assert {warning["code"] for warning in outer["warnings"]} == {"STEP_UNAVAILABLE", "NO_ELIGIBLE_STEP"}
    gone = app.client().post(
        "/v1/chat/completions", json={"model": "outer", "messages": [{"role": "user", "content": ""}]}
    )
    assert (gone.status_code, gone.headers["X-OmniRoute-Error-Code"]) == (503, "no_eligible_target")


def test_order_and_search(app: App) -> None:
    ids = [create(app, name, "sandbox/echo")["id"] for name in ("a", "b", "c")]
    ordered = app.admin.post("/api/combos/reorder", json={"comboIds": [ids[2], ids[0]]}).get_json()["combos"]
    assert [(combo["name"], combo["sortOrder"]) for combo in ordered] == [("c", 0), ("a", 1), ("b", 2)]
    listed = app.admin.get("/api/combos?limit=1&offset=1").get_json()
    assert ([combo["name"] for combo in listed["combos"]], listed["total"]) == (["a"], 3)
    assert [combo["name"] for combo in app.admin.get("/api/combos?sort=-name").get_json()["combos"]] == ["c", "b", "a"]
    assert error_of(app.admin.post("/api/combos/reorder", json={"comboIds": ["x"]}))["code"] == "validation_failed"
    create(app, "d", "sandbox/story", "a")
    assert [one["name"] for one in app.admin.get("/api/combos?q=STORY").get_json()["combos"]] == ["d"]


def test_one_combo_is_the_default(app: App) -> None:
    first = create(app, "first", "sandbox/echo", isDefault=True)
    second = create(app, "second", "sandbox/echo")
    assert first["isDefault"] is True
    assert app.admin.get("/api/combos/default").get_json()["default"]["name"] == "first"
    changed = app.admin.put("/api/combos/default", json={"id": second["id"]}).get_json()["default"]
    assert (changed["name"], changed["isDefault"]) == ("second", True)
    assert app.admin.get(f"/api/combos/{first['id']}").get_json()["isDefault"] is False
    assert app.admin.put(f"/api/combos/{second['id']}", json={"isDefault": False}).get_json()["isDefault"] is False
    assert app.admin.get("/api/combos/default").get_json() == {"default": None}
    app.admin.put("/api/combos/default", json={"name": "first"})
    assert app.admin.put("/api/combos/default", json={"id": None}).get_json() == {"default": None}
    assert error_of(app.admin.put("/api/combos/default", json={"name": "nobody"}))["code"] == "not_found"
    assert error_of(app.admin.put("/api/combos/default", json={}))["code"] == "validation_failed"
    assert "combo.default_changed" in actions(app)


def test_each_target_is_asked_once(app: App) -> None:
    def act(sock: Any, request: Received) -> Any:
        return (WHOLE if b'"a"' in request.body else DENIED)(sock, request)

    with fake_upstream(act) as upstream:
        node = {
            "name": "up",
            "prefix": "up",
            "type": "openai-compatible",
            "baseUrl": upstream.url + "/v1",
            "isLocal": True,
        }
        node_id = app.admin.post("/api/provider-nodes", json=node).get_json()["node"]["id"]
        connection = app.admin.post("/api/providers", json={"provider": node_id, "apiKey": KEY}).get_json()[
            "connection"
        ]
        combo = create(app, "c", "up/a", "nobody/b", "up/c", strategy="random")
        tested = app.admin.post("/api/combos/test", json={"comboName": "c", "prompt": "Say hi"}).get_json()
    assert (tested["strategy"], tested["testedAt"][-1]) == ("random", "Z")
    assert [(one["status"], one["model"], one["connection"]) for one in tested["results"]] == [
        ("ok", "up/a", connection["id"]),
        ("error", "up/c", connection["id"]),
        ("skipped", "nobody/b", None),
    ]
    assert "error" in tested["results"][1]
    assert all("Say hi" in request.body.decode() for request in upstream.received)
    missing = app.admin.post("/api/combos/test", json={"id": combo["id"][:-1]})
    assert error_of(missing)["code"] == "not_found"


def test_metrics_are_added_up_and_can_begin_anew(app: App) -> None:
    one, two = create(app, "one", "sandbox/echo"), create(app, "two", "sandbox/echo")
    log, now = app.own.request_log, app.own.combo_reports.now()

    def put(number: int, combo: dict[str, Any], outcome: str = "success", age_s: float = 10.0, **facts: Any) -> None:
        step = combo["models"][0]["id"]
        usual = {"endpoint": "/v1", "client_format": "openai_chat", "requested_model": combo["name"]}
        where = {"combo_id": combo["id"], "step_id": step, "provider": "sandbox", "model": "echo"}
        log.put(RequestRecord(f"req_{number}", now - age_s, outcome=outcome, **{**usual, **where, **facts}))

    put(1, one, duration_ms=100.0)
    put(2, one, duration_ms=300.0)
    put(3, one, "failed", duration_ms=9000.0)
    put(4, two, duration_ms=50.0, kind="test")
    put(5, two, duration_ms=50.0, age_s=7200.0)
    log.flush()

    def told(query: str = "") -> list[Any]:
        metrics: list[Any] = app.admin.get(f"/api/combos/metrics?{query}").get_json()["metrics"]
        return metrics

    (only,) = told("windowHours=1")
    assert (only["combo"], only["requests"], only["success"], only["avgLatencyMs"]) == ("one", 3, 2, 200.0)
    assert only["fallbackRate"] == 0.0
    assert [(t["stepId"], t["model"], t["requests"]) for t in only["targets"]] == [
        (one["models"][0]["id"], "sandbox/echo", 3)
    ]
    assert [metric["combo"] for metric in told()] == ["one", "two"]
    assert [metric["combo"] for metric in told("combo=two")] == ["two"]
    assert app.admin.delete("/api/combos/metrics?combo=one").status_code == 200
    assert [metric["combo"] for metric in told()] == ["two"]
    assert told(f"combo={one['id']}") == []
    assert app.admin.delete("/api/combos/metrics").status_code == 200
    assert told() == []
    for query in ("windowHours=0", "combo=nobody"):
        assert error_of(app.admin.get(f"/api/combos/metrics?{query}"))["code"] == "validation_failed"


def test_channels_are_shown_and_tuned(app: App) -> None:
    listed = app.admin.get("/api/combos/auto").get_json()["channels"]
    assert [channel["channel"] for channel in listed][:2] == ["auto", "auto/coding"]
    assert len(listed) == 7
    assert listed[0]["poolSize"] == len(listed[0]["models"]) > 0
    assert sum(listed[0]["weights"].values()) == pytest.approx(1)
    tuned = app.admin.patch(
        "/api/combos/auto/fast",
        json={"weights": {"latency": 0, "cost": 3, "success": -1}, "exploration": 0.2, "exclude": {"models": ["echo"]}},
    ).get_json()
    assert (tuned["channel"], tuned["exploration"], tuned["exclude"]["models"]) == ("auto/fast", 0.2, ["echo"])
    assert tuned["weights"]["latency"] == tuned["weights"]["success"] == 0
    assert "sandbox/echo" not in tuned["models"]
    assert tuned["poolSize"] == listed[0]["poolSize"] - 1
    assert app.admin.get("/api/combos/auto/auto/fast").get_json() == tuned
    key = app.own.keys.create({"name": "k"}, SYSTEM).key.id
    own = app.admin.patch(
        "/api/combos/auto/fast", json={"apiKeyId": key, "exclude": {"providers": ["sandbox"]}}
    ).get_json()
    assert (own["apiKeyId"], own["poolSize"], own["exclude"]["providers"]) == (key, 0, ["sandbox"])
    assert app.admin.get("/api/combos/auto/fast").get_json()["poolSize"] == tuned["poolSize"]
    back = app.admin.patch("/api/combos/auto/fast", json={"weights": None, "exploration": None, "exclude": None})
    assert back.get_json() == next(channel for channel in listed if channel["channel"] == "auto/fast")
    wrong_ones: list[dict[str, Any]] = [
        {"weights": {"luck": 1}},
        {"weights": {"cost": "much"}},
        {"exploration": 0.6},
        {"exclude": {"providers": ["nobody"]}},
        {"apiKeyId": "key_x"},
        {"wieghts": {}},
    ]
    for body in wrong_ones:
        assert error_of(app.admin.patch("/api/combos/auto/fast", json=body))["code"] == "validation_failed"
    unknown = app.admin.get("/api/combos/auto/magic")
    assert unknown.status_code == 404
    assert "auto/lkgp" in error_of(unknown)["message"]


def test_a_connection_names_the_combos_that_it_was_pinned_in(app: App) -> None:
    made = app.admin.post("/api/providers", json={"provider": "groq", "apiKey": KEY}).get_json()["connection"]
    create(app, "pinned", {"model": "groq/x", "connectionId": made["id"]}, "sandbox/echo")
    create(app, "free", "groq/x")
    gone = app.admin.delete(f"/api/providers/{made['id']}").get_json()
    assert gone["affectedCombos"] == ["pinned"]


def test_the_combos_that_pin_a_connection_are_found(app: App) -> None:
    made = [
        app.admin.post("/api/providers", json={"provider": "groq", "apiKey": KEY}).get_json()["connection"]["id"]
        for _ in range(2)
    ]
    create(app, "one", {"model": "groq/x", "connectionId": made[0]}, "sandbox/echo")
    create(app, "other", {"model": "groq/x", "connectionId": made[1]}, "sandbox/echo")
    create(app, "free", "groq/x")

    def found(connection: str) -> list[str]:
        return [row["name"] for row in app.admin.get(f"/api/combos?connection={connection}").get_json()["combos"]]

    assert found(made[0]) == ["one"]
    assert found(",".join(made)) == ["one", "other"]
    assert found("conn_nobody") == []
    gone = app.admin.delete("/api/providers", json={"ids": made}).get_json()
    assert gone == {"deleted": 2, "affectedCombos": ["one", "other"]}


def test_reading_is_not_writing(shared: App) -> None:
    chat_key = shared.key()
    for method, path in (("get", "/api/combos"), ("post", "/api/combos"), ("put", "/api/combos/default")):
        assert getattr(shared.client(chat_key), method)(path, json={}).status_code == 403
    assert shared.client(address="192.0.2.7").get("/api/combos").status_code == 401
