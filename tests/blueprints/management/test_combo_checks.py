"""Combos before they are stored, under assumed failures, and while somebody else changes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application with one combo; tests leave it as it is."""
    data_dir = tmp_path_factory.mktemp("checks") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        body = {"name": "base", "models": ["sandbox/echo", "sandbox/story"], "strategy": "weighted"}
        assert built.admin.post("/api/combos", json=body).status_code == 201
        yield built


def base(app: App) -> dict[str, Any]:
    found: dict[str, Any] = app.admin.get("/api/combos?q=base").get_json()["combos"][0]
    return found


def checked(app: App, **body: Any) -> dict[str, Any]:
    response = app.admin.post("/api/combos/check", json={"name": "draft", "models": ["sandbox/echo"], **body})
    assert response.status_code == 200, response.get_json()
    found: dict[str, Any] = response.get_json()
    return found


def test_a_draft_is_judged_and_not_stored(app: App) -> None:
    found = checked(app, models=["sandbox/story", "nowhere/model"], strategy="priority")
    assert [(one["model"], one["health"]) for one in found["targets"]] == [
        ("sandbox/story", "ok"),
        ("nowhere/model", "inactive"),
    ]
    assert found["targets"][0]["contextLength"] == 128_000
    assert [(one["model"], one["eligible"]) for one in found["path"]] == [
        ("sandbox/story", True),
        ("nowhere/model", False),
    ]
    assert [one["code"] for one in found["warnings"]] == ["STEP_UNAVAILABLE"]
    assert [one["name"] for one in app.admin.get("/api/combos").get_json()["combos"]] == ["base"]


def test_a_change_is_judged_with_the_id_of_what_it_changes(app: App) -> None:
    own = base(app)
    found = checked(app, id=own["id"], name="base", models=["sandbox/echo"])
    assert (found["id"], found["strategy"], len(found["models"])) == (own["id"], "weighted", 1)
    taken = app.admin.post("/api/combos/check", json={"name": "base", "models": ["sandbox/echo"]})
    assert error_of(taken)["code"] == "combo_name_taken"
    assert base(app)["updatedAt"] == own["updatedAt"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"models": []}, 400, "combo_empty"),
        ({"config": {"maxRetries": 99}}, 400, "validation_failed"),
        ({"id": "combo_none"}, 404, "not_found"),
        ({"promptTokens": -1}, 400, "validation_failed"),
    ],
)
def test_what_could_not_be_stored_is_refused(app: App, body: dict[str, Any], status: int, code: str) -> None:
    response = app.admin.post("/api/combos/check", json={"name": "draft", "models": ["sandbox/echo"], **body})
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_what_the_request_needs_leaves_targets_out(app: App) -> None:
    found = checked(app, models=["sandbox/echo", "sandbox/tools"], vision=True, promptTokens=10)
    assert [one["model"] for one in found["path"] if one["eligible"]] == ["sandbox/echo"]
    assert found["path"][-1]["reason"] == "capability:vision"


def test_lists_are_narrowed_by_strategy_and_tell_of_targets(app: App) -> None:
    assert app.admin.get("/api/combos?strategy=priority").get_json()["combos"] == []
    [one] = app.admin.get("/api/combos?strategy=weighted&targets=true").get_json()["combos"]
    assert [target["model"] for target in one["targets"]] == ["sandbox/echo", "sandbox/story"]
    assert "targets" not in base(app)
    wrong = app.admin.get("/api/combos?strategy=luck")
    assert error_of(wrong)["details"][0]["field"] == "strategy"


def test_a_change_is_refused_when_somebody_was_faster(app: App) -> None:
    own = base(app)
    path = f"/api/combos/{own['id']}"
    fresh = app.admin.put(path, json={"description": "one", "ifUnchangedSince": own["updatedAt"]})
    assert fresh.status_code == 200
    old = "2020-01-01T00:00:00.000Z"
    late = app.admin.put(path, json={"description": "two", "ifUnchangedSince": old})
    assert (late.status_code, error_of(late)["code"]) == (409, "changed_meanwhile")
    assert base(app)["description"] == "one"
    assert app.admin.put(path, json={"description": None}).status_code == 200


class TestAssumedFailures:
    def simulated(self, app: App, *failing: str) -> list[tuple[str, bool, str | None]]:
        body = {"model": "base", "assume": {"failing": list(failing)}}
        response = app.admin.post("/api/routing/simulate", json=body)
        assert response.status_code == 200, response.get_json()
        return [(one["model"], one["eligible"], one.get("detail")) for one in response.get_json()["path"]]

    def test_a_target_that_is_taken_to_fail_is_left_out(self, app: App) -> None:
        assert self.simulated(app, "sandbox/echo") == [
            ("sandbox/story", True, None),
            ("sandbox/echo", False, "assumed"),
        ]

    @pytest.mark.parametrize("name", ["sandbox"])
    def test_a_provider_fails_with_all_of_its_targets(self, app: App, name: str) -> None:
        assert {(eligible, detail) for _model, eligible, detail in self.simulated(app, name)} == {(False, "assumed")}

    def test_nothing_is_remembered_of_it(self, app: App) -> None:
        self.simulated(app, "sandbox/echo", "sandbox/story")
        assert all(eligible for _model, eligible, _detail in self.simulated(app))

    def test_a_name_that_is_not_among_them_is_refused(self, app: App) -> None:
        body = {"model": "base", "assume": {"failing": ["groq/llama"]}}
        response = app.admin.post("/api/routing/simulate", json=body)
        assert error_of(response)["details"][0]["field"] == "assume.failing"


def test_the_candidates_of_a_channel_for_operators(app: App) -> None:
    found = app.admin.get("/api/combos/auto-candidates?channel=auto/cheap").get_json()
    assert found["channel"] == "auto/cheap"
    assert found["candidates"][0]["eligible"] is True
    assert set(found["candidates"][0]["factors"]) >= {"cost", "latency"}
    assert app.admin.get("/api/combos/auto-candidates?channel=nothing").status_code == 404


def test_keys_are_narrowed_by_state_and_scope(app: App) -> None:
    app.key(name="off", isActive=False)
    names = {one["name"] for one in app.admin.get("/api/keys?state=disabled").get_json()["keys"]}
    assert names == {"off"}
    assert {one["name"] for one in app.admin.get("/api/keys?scope=admin").get_json()["keys"]} == {"admin"}
    wrong = app.admin.get("/api/keys?state=asleep")
    assert error_of(wrong)["details"][0]["field"] == "state"
