"""The list of combos: what it shows, the order, the switches, copies, deletion, ready-made ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blueprints.dashboard.conftest import Pages, text_of
from tests.blueprints.dashboard.emptied import empty, opened

PATH = "/dashboard/combos"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with opened(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture
def pages(world: Pages) -> Iterator[Pages]:
    yield world
    empty(world)


def make(pages: Pages, name: str, *models: Any, **fields: Any) -> dict[str, Any]:
    body = {"name": name, "models": list(models) or ["sandbox/echo"], **fields}
    made: dict[str, Any] = pages.api("POST", "/api/combos", body)
    return made


def names(pages: Pages) -> list[str]:
    return [one["name"] for one in pages.api("GET", "/api/combos")["combos"]]


def test_nothing_yet_offers_ready_made_ones(pages: Pages) -> None:
    page = pages.get(PATH)
    assert "No combo yet" in page
    assert page.count('name="template"') == 5
    page = pages.after(pages.post(f"{PATH}/templates", {"template": "high-availability"}))
    assert "The combo high-availability is made." in page
    [made] = pages.api("GET", "/api/combos")["combos"]
    assert made["config"] == {"maxSetRetries": 1}
    assert made["models"]
    pages.post(f"{PATH}/templates", {"template": "high-availability"})
    assert names(pages) == ["high-availability", "high-availability-2"]
    assert "There is no such template." in pages.after(pages.post(f"{PATH}/templates", {"template": "luck"}))


@pytest.mark.parametrize("template", ["subscription-first", "free-only", "cheapest-capable", "fast"])
def test_each_template_makes_a_combo_that_can_serve(pages: Pages, template: str) -> None:
    pages.post(f"{PATH}/templates", {"template": template})
    [made] = pages.api("GET", "/api/combos?targets=true")["combos"]
    assert made["name"] == template
    assert {one["health"] for one in made["targets"]} == {"ok"}


def test_a_card_says_how_each_target_stands(pages: Pages) -> None:
    make(pages, "mine", "sandbox/echo", "nowhere/model", strategy="weighted", isDefault=True)
    page = pages.get(PATH)
    assert "Weighted" in page
    assert "default" in page
    assert "sandbox/echo" in page
    assert "no active connection" in page


def test_the_list_is_narrowed(pages: Pages) -> None:
    make(pages, "one", "sandbox/echo")
    make(pages, "two", "sandbox/story", strategy="random")
    page = pages.get(f"{PATH}?strategy=random")
    assert 'data-row="two"' in page
    assert 'data-row="one"' not in page
    assert "data-reorder" not in page, "a part of the list has no order of its own"
    assert 'data-row="one"' in pages.get(f"{PATH}?q=echo")
    assert "No combo fits these filters" in pages.get(f"{PATH}?q=nothing+like+this")
    assert 'data-row="one"' in pages.get(f"{PATH}?strategy=luck"), "an unknown strategy is no filter"


def test_the_order_is_changed_by_buttons_and_by_dragging(pages: Pages) -> None:
    ids = [make(pages, name)["id"] for name in ("a", "b", "c")]
    form = {"comboId": ids, "move": f"up:{ids[2]}", "after": "0"}
    assert "The order is saved." in pages.after(pages.post(f"{PATH}/reorder", form))
    assert names(pages) == ["a", "c", "b"]
    pages.post(f"{PATH}/reorder", {"comboId": ids, "move": f"up:{ids[0]}"})
    assert names(pages) == ["a", "b", "c"], "the first one stays where it is"
    dragged = pages.client.post(
        f"{PATH}/reorder",
        data={"comboId": [ids[2], ids[0], ids[1]]},
        headers={"Origin": "http://localhost:20128", "HX-Request": "true"},
    )
    assert dragged.status_code == 204
    assert names(pages) == ["c", "a", "b"]
    assert "(code" in pages.after(pages.post(f"{PATH}/reorder", {"comboId": ["combo_none"]}))


def test_the_order_of_a_later_page_leaves_the_first_alone(pages: Pages) -> None:
    ids = [make(pages, f"c{at:02}")["id"] for at in range(4)]
    pages.post(f"{PATH}/reorder", {"comboId": ids[2:], "move": f"down:{ids[2]}", "after": "2"})
    assert names(pages) == ["c00", "c01", "c03", "c02"]


def test_a_combo_is_switched_made_the_default_and_copied(pages: Pages) -> None:
    made = make(pages, "mine", {"model": "sandbox/echo", "weight": 3}, strategy="weighted", config={"maxRetries": 2})
    path = f"{PATH}/{made['id']}"
    assert "mine is off." in pages.after(pages.post(f"{path}/switch", {"isActive": "false"}))
    assert pages.api("GET", f"/api/combos/{made['id']}")["isActive"] is False
    assert "mine is on." in pages.after(pages.post(f"{path}/switch", {"isActive": "true", "of": made["id"]}))
    pages.post(f"{path}/default", {"isDefault": "true"})
    assert pages.api("GET", "/api/combos/default")["default"]["name"] == "mine"
    pages.post(f"{path}/default", {"isDefault": "false"})
    assert pages.api("GET", "/api/combos/default")["default"] is None
    led = pages.post(f"{path}/duplicate")
    assert "mine copy is made as a copy." in pages.after(led)
    copy = pages.api("GET", "/api/combos?q=mine%20copy")["combos"][0]
    assert (copy["strategy"], copy["config"], copy["models"][0]["weight"]) == ("weighted", {"maxRetries": 2}, 3)
    assert copy["models"][0]["id"] != made["models"][0]["id"]
    pages.post(f"{path}/duplicate")
    assert "mine copy 2" in names(pages)


def test_deleting_names_what_refers_to_it(pages: Pages) -> None:
    child = make(pages, "child")
    make(pages, "parent", {"kind": "combo-ref", "comboName": "child"})
    page = text_of(pages.post(f"{PATH}/{child['id']}/delete", expect=409))
    assert "Other combos refer to it" in page
    assert re.search(r"<li><a [^>]*>parent</a></li>", page)
    assert "child" in names(pages)
    forced = pages.post(f"{PATH}/{child['id']}/delete", {"force": "true"})
    assert "The combo child is deleted." in pages.after(forced)
    assert names(pages) == ["parent"]


@pytest.mark.parametrize("action", ["switch", "default", "duplicate", "delete", "test", "reset"])
def test_what_is_not_there_is_said(pages: Pages, action: str) -> None:
    led = pages.client.post(
        f"{PATH}/combo_none/{action}", data={"isDefault": "true"}, headers={"Origin": "http://localhost:20128"}
    )
    assert led.status_code in (303, 404)
    if led.status_code == 303 and led.headers["Location"] == PATH:
        assert "(code " in pages.after(led)


def test_the_cards_refresh_alone(pages: Pages) -> None:
    make(pages, "mine")
    answer = pages.block(PATH, "combo_rows")
    assert answer.status_code == 200
    assert "<html" not in text_of(answer)
    again = pages.client.get(
        PATH, headers={"HX-Request": "true", "HX-Target": "combo_rows", "If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304
