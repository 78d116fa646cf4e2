"""API Manager: the list, a new key that is shown once, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.blueprints.dashboard import key_form
from tests.blueprints.dashboard.conftest import Pages, field_of, text_of
from tests.blueprints.dashboard.emptied import empty, opened

PATH = "/dashboard/keys"
NEW = f"{PATH}/new"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with opened(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture
def pages(world: Pages) -> Iterator[Pages]:
    yield world
    empty(world)


def form(**fields: Any) -> dict[str, Any]:
    return {"name": "laptop", "kind": "inference", "do": "save", **fields}


def key_named(pages: Pages, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in pages.api("GET", "/api/keys?limit=200")["keys"] if one["name"] == name)
    return found


def test_a_new_key_is_shown_once_with_snippets(pages: Pages) -> None:
    answer = pages.post(NEW, form(name=" laptop "), expect=201)
    assert answer.headers["Cache-Control"] == "no-store"
    page = text_of(answer)
    found = re.search(r'<code id="new-key">(sk-[^<]+)</code>', page)
    assert found is not None
    for text in ("/v1/chat/completions", "OpenAI(base_url=", f"ANTHROPIC_AUTH_TOKEN={found[1]}"):
        assert text in page
    listed = pages.get(PATH)
    assert found[1] not in listed
    made = key_named(pages, "laptop")
    assert made["key"] in listed
    assert made["scopes"] == ["chat", "self:usage"]
    asked = pages.app.client(found[1]).get("/v1/models")
    assert asked.status_code == 200


def test_all_that_a_key_may_be_limited_to(pages: Pages) -> None:
    sent = form(
        kind="custom",
        scopes="chat, reserve:use",
        expires="2030-05-06",
        allowedModels="sandbox/*\ngroq/*",
        blockedModels="groq/x",
        allowedCombos="mine",
        allowedEndpoints=["chat/completions", "models"],
        ipAllowlist="10.0.0.0/8, 192.0.2.7",
        rules="60 / 60\n1000/86400s",
        maxConcurrent="4",
        throttleDelayMs="10",
        noLog="true",
        hasSchedule="true",
        scheduleFrom="08:00",
        scheduleUntil="18:00",
        scheduleDays=["0", "4"],
        scheduleTz="Europe/Berlin",
    )
    sent |= {"budget-daily": "2,50", "budget-monthly": "40"}
    pages.post(NEW, sent, expect=201)
    made = key_named(pages, "laptop")
    assert set(made["scopes"]) == {"chat", "reserve:use", "self:usage"}
    assert made["expiresAt"] == "2030-05-06T23:59:59.000Z"
    assert made["allowedModels"] == ["sandbox/*", "groq/*"]
    assert (made["blockedModels"], made["allowedCombos"]) == (["groq/x"], ["mine"])
    assert made["allowedEndpoints"] == ["chat/completions", "models"]
    assert made["ipAllowlist"] == ["10.0.0.0/8", "192.0.2.7/32"]
    assert made["rateLimits"] == [{"limit": 60, "windowSeconds": 60}, {"limit": 1000, "windowSeconds": 86400}]
    assert (made["maxConcurrent"], made["throttleDelayMs"], made["noLog"]) == (4, 10, True)
    assert made["accessSchedule"] == {
        "enabled": True,
        "from": "08:00",
        "until": "18:00",
        "days": [0, 4],
        "tz": "Europe/Berlin",
    }
    budgets = pages.api("GET", f"/api/usage/budget?keyId={made['id']}")["budgets"]
    assert {one["period"]: one["limit"] for one in budgets} == {"daily": 2.5, "monthly": 40.0}
    assert "Budget of laptop" in pages.get(PATH)


@pytest.mark.parametrize(
    ("wrong", "mark"),
    [
        ({"name": ""}, 'id="f-name-fault"'),
        ({"expires": "2001-01-01"}, 'id="f-expires-fault"'),
        ({"rules": "many / 60"}, 'id="f-rules-fault"'),
        ({"ipAllowlist": "home"}, 'id="f-ipAllowlist-fault"'),
        ({"maxConcurrent": "few"}, 'id="f-maxConcurrent-fault"'),
        ({"budget-daily": "lots"}, 'id="f-budget-daily-fault"'),
        ({"budget-weekly": "-3"}, 'id="f-budget-weekly-fault"'),
        ({"kind": "custom", "scopes": "root"}, 'id="f-scopes-fault"'),
        ({"hasSchedule": "true", "scheduleFrom": "8", "scheduleTz": "UTC"}, 'id="f-scheduleFrom-fault"'),
    ],
)
def test_wrong_values_keep_what_was_typed_and_mark_the_field(pages: Pages, wrong: dict[str, str], mark: str) -> None:
    page = text_of(pages.post(NEW, form(allowedModels="sandbox/*") | wrong, expect=400))
    assert mark in page
    assert field_of(page, "allowedModels") == "sandbox/*"
    for name, value in wrong.items():
        if name not in ("kind", "hasSchedule"):
            assert field_of(page, name) == value
    assert [one["name"] for one in pages.api("GET", "/api/keys")["keys"]] == ["admin"]


def test_models_families_and_combos_are_found_and_added(pages: Pages) -> None:
    pages.api("POST", "/api/combos", {"name": "story mix", "models": ["sandbox/echo"]})
    page = text_of(pages.post(NEW, form(do="check", find="story"), expect=200))
    for action in ("allow-model:sandbox/*", "allow-model:sandbox/story", "allow-combo:story mix"):
        assert f'value="{action}"' in page
    page = text_of(pages.post(NEW, form(do="allow-model:sandbox/*", allowedModels="groq/x"), expect=200))
    assert field_of(page, "allowedModels") == "groq/x\nsandbox/*"
    page = text_of(pages.post(NEW, form(do="allow-combo:story mix"), expect=200))
    assert field_of(page, "allowedCombos") == "story mix"


def test_the_list_is_narrowed_and_paged(pages: Pages) -> None:
    for at in range(52):
        pages.api("POST", "/api/keys", {"name": f"client {at:02}", "isActive": at != 7})
    page = pages.get(f"{PATH}?sort=name")
    assert "client 00" in page
    assert "client 51" not in page
    assert "1–50 of 53" in page
    assert "client 51" in pages.get(f"{PATH}?sort=name&offset=50")
    off = pages.get(f"{PATH}?state=disabled")
    assert "client 07" in off
    assert "client 08" not in off
    assert "client 08" not in pages.get(f"{PATH}?scope=admin")
    assert "client 08" in pages.get(f"{PATH}?q=08")
    assert "No key fits these filters" in pages.get(f"{PATH}?q=nobody")
    assert "client 51" in pages.get(f"{PATH}?state=asleep&sort=luck"), "what is no filter filters nothing"


@pytest.mark.parametrize(
    ("scopes", "kind"),
    [
        (["chat", "self:usage"], "inference"),
        (["chat"], "inference"),
        (["chat", "manage", "self:usage"], "manage"),
        (["manage", "self:usage"], "custom"),
        (["self:usage"], "custom"),
    ],
)
def test_scopes_make_a_kind(scopes: list[str], kind: str) -> None:
    assert key_form.kind_of(scopes) == kind
