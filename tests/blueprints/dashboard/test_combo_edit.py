"""The form of a combo, without a script: adding, moving, weighing, saving, and two people at the same combo."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blueprints.dashboard.conftest import Pages, field_of, text_of
from tests.blueprints.dashboard.emptied import empty, opened

NEW = "/dashboard/combos/new"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with opened(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture
def pages(world: Pages) -> Iterator[Pages]:
    yield world
    empty(world)


def form(*models: str, **fields: Any) -> dict[str, Any]:
    """Return a form as a browser would send it."""
    made: dict[str, Any] = {"name": "mine", "strategy": "priority", "isActive": "true", "do": "save"}
    made["step"] = [f"s{at}" for at in range(len(models))]
    for at, model in enumerate(models):
        made |= {f"s{at}:kind": "model", f"s{at}:target": model, f"s{at}:weight": "1", f"s{at}:enabled": "true"}
    return made | fields


def shown(page: str) -> list[str]:
    """Return the targets of the list in their order."""
    return re.findall(r'name="s\d+:target" value="([^"]+)"', page)


def after(pages: Pages, *models: str, do: str, **fields: Any) -> str:
    return text_of(pages.post(NEW, form(*models, do=do, **fields), expect=200))


def test_the_empty_form_says_what_is_missing(pages: Pages) -> None:
    page = pages.get(NEW)
    assert "Add at least one model." in page
    assert page.count('name="strategy"') == 14
    assert "Default: 12." in page, "attempts in all"
    assert shown(pages.get(f"{NEW}?model=sandbox/echo&model=sandbox/story")) == ["sandbox/echo", "sandbox/story"]


def test_models_are_found_added_moved_and_removed(pages: Pages) -> None:
    page = after(pages, do="check", find="story", name="kept")
    assert 'value="add:model:sandbox/story"' in page
    assert field_of(page, "name") == "kept"
    assert shown(after(pages, "sandbox/echo", do="add:model:sandbox/story")) == ["sandbox/echo", "sandbox/story"]
    assert shown(after(pages, "a/1", "b/2", "c/3", do="up:s2")) == ["a/1", "c/3", "b/2"]
    assert shown(after(pages, "a/1", "b/2", "c/3", do="down:s0")) == ["b/2", "a/1", "c/3"]
    assert shown(after(pages, "a/1", "b/2", do="up:s0")) == ["a/1", "b/2"]
    assert shown(after(pages, "a/1", "b/2", do="remove:s0")) == ["b/2"]
    assert shown(after(pages, "a/1", do="add:auto:auto/fast")) == ["a/1", "auto/fast"]
    assert shown(after(pages, "a/1", do="add:nonsense:x")) == ["a/1"]


def test_weights_are_distributed_evenly(pages: Pages) -> None:
    page = after(pages, "a/1", "b/2", "c/3", do="even:")
    assert re.findall(r'name="s\d:weight" value="([^"]+)"', page) == ["34", "33", "33"]


def test_the_search_alone_is_a_part_of_the_page(pages: Pages) -> None:
    pages.api("POST", "/api/combos", {"name": "other", "models": ["sandbox/echo"]})
    part = pages.get("/dashboard/combos/models?find=o")
    assert "<html" not in part
    assert 'value="add:combo-ref:other"' in part
    assert 'value="add:auto:auto/coding"' in part
    assert "Add “nowhere/x”" in pages.get("/dashboard/combos/models?find=nowhere/x")
    assert pages.get("/dashboard/combos/models").strip() == ""


def test_readiness_and_dry_run(pages: Pages) -> None:
    page = after(pages, "sandbox/echo", "nowhere/model", do="check", name="")
    for text in ("Give it a name.", "1 target can serve now.", "All prices are known.", "leads nowhere now"):
        assert text in page
    assert "no active connection" in page
    page = after(pages, "sandbox/tools", do="check", sampleVision="true", sampleTokens="lots")
    assert "No target can serve now." in page
    assert "cannot read images" in page
    pages.api("POST", "/api/combos", {"name": "mine", "models": ["sandbox/echo"]})
    page = after(pages, "sandbox/echo", do="check")
    assert "There is a combo 'mine' already." in page
    assert "1 target can serve now." in page, "the rest is checked all the same"


def test_a_combo_is_made_with_all_that_was_typed(pages: Pages) -> None:
    sent = form("sandbox/echo", "sandbox/story", strategy="weighted", description="Two", isDefault="true")
    sent |= {
        "s0:weight": "70",
        "s0:label": "Main",
        "s0:tags": "a, b",
        "config.maxRetries": "3",
        "config.hedging": "true",
        "config.minContextWindow": "2000",
        "config.forbidden": "oops\nsorry",
        "config.weights": "latency = 0.5",
        "allowedProviders": "sandbox",
        "context_length": "9000",
    }
    del sent["s1:enabled"]
    page = pages.after(pages.post(NEW, sent))
    assert "The combo mine is made." in page
    [made] = pages.api("GET", "/api/combos")["combos"]
    assert (made["strategy"], made["description"], made["isDefault"]) == ("weighted", "Two", True)
    assert made["config"] == {
        "maxRetries": 3,
        "hedging": True,
        "contextRequirements": {"minContextWindow": 2000},
        "responseValidation": {"forbidden": ["oops", "sorry"]},
        "weights": {"latency": 0.5},
    }
    first, second = made["models"]
    assert (first["weight"], first["label"], first["tags"], first["enabled"]) == (70, "Main", ["a", "b"], True)
    assert second["enabled"] is False
    assert (made["allowedProviders"], made["context_length"]) == (["sandbox"], 9000)
    edit = pages.get(f"/dashboard/combos/{made['id']}/edit")
    assert field_of(edit, "config.maxRetries") == "3"
    assert field_of(edit, "config.forbidden") == "oops\nsorry"
    assert field_of(edit, "s0:label") == "Main"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, 'id="f-name-fault"'),
        ({"name": "auto"}, 'id="f-name-fault"'),
        ({"config.maxRetries": "many"}, 'id="f-maxRetries-fault"'),
        ({"config.minContextWindow": "1"}, 'id="f-minContextWindow-fault"'),
        ({"context_length": "few"}, 'id="f-context_length-fault"'),
        ({"s0:weight": "heavy"}, "weight: must be"),
        ({"allowedProviders": "nobody"}, 'id="f-allowedProviders-fault"'),
    ],
)
def test_wrong_values_keep_what_was_typed_and_mark_the_field(pages: Pages, wrong: dict[str, str], field: str) -> None:
    page = text_of(pages.post(NEW, form("sandbox/echo", description="kept", **wrong), expect=400))
    assert field in page
    assert field_of(page, "description") == "kept"
    for name, value in wrong.items():
        assert field_of(page, name) == value
    assert pages.api("GET", "/api/combos")["combos"] == []


def test_a_list_without_models_is_refused(pages: Pages) -> None:
    assert "A combo needs at least one step." in text_of(pages.post(NEW, form(), expect=400))


class TestTwoAtTheSameCombo:
    def stored(self, pages: Pages) -> dict[str, Any]:
        body = {"name": "mine", "models": ["sandbox/echo"], "config": {"maxRetries": 1}}
        made: dict[str, Any] = pages.api("POST", "/api/combos", body)
        return made

    def overtaken(self, pages: Pages) -> tuple[dict[str, Any], str, str]:
        """Return the combo as the other has stored it, what the one who came late sees, and the path."""
        made = self.stored(pages)
        path = f"/dashboard/combos/{made['id']}/edit"
        change = {"strategy": "random", "models": ["sandbox/story"], "config": {"maxRetries": 2}}
        theirs = pages.api("PUT", f"/api/combos/{made['id']}", change)
        sent = form("sandbox/echo", description="my work", updatedAt="2020-01-01T00:00:00.000Z")
        return theirs, text_of(pages.post(path, sent, expect=409)), path

    def test_the_second_is_told_and_nothing_is_lost(self, pages: Pages) -> None:
        theirs, page, path = self.overtaken(pages)
        assert "This combo was changed while you worked on it" in page
        assert field_of(page, "description") == "my work"
        assert shown(page) == ["sandbox/echo"]
        for label, mine, other in (
            ("Models", "sandbox/echo", "sandbox/story"),
            ("Strategy", "priority", "random"),
            ("Description", "my work", "–"),
            ("Settings", "–", "maxRetries: 2"),
        ):
            row = f'<th scope="row">{label}</th><td class="pre-line">{mine}</td><td class="pre-line">{other}</td>'
            assert row in page, label
        assert field_of(page, "theirs") == theirs["updatedAt"]
        assert pages.api("GET", f"/api/combos/{theirs['id']}")["strategy"] == "random"
        assert f'href="{path}">Take theirs' in page

    def test_mine_is_saved_all_the_same(self, pages: Pages) -> None:
        theirs, _page, path = self.overtaken(pages)
        sent = form("sandbox/echo", description="my work", theirs=theirs["updatedAt"], do="save-mine")
        assert "The combo mine is saved." in pages.after(pages.post(path, sent))
        assert pages.api("GET", f"/api/combos/{theirs['id']}")["description"] == "my work"

    def test_a_third_change_meanwhile_is_told_too(self, pages: Pages) -> None:
        _theirs, _page, path = self.overtaken(pages)
        sent = form("sandbox/echo", theirs="2020-01-01T00:00:00.000Z", do="save-mine")
        pages.post(path, sent, expect=409)

    def test_unchanged_since_it_was_loaded_it_is_saved(self, pages: Pages) -> None:
        made = self.stored(pages)
        path = f"/dashboard/combos/{made['id']}/edit"
        page = pages.get(path)
        assert field_of(page, "updatedAt") == made["updatedAt"]
        sent = form("sandbox/story", updatedAt=made["updatedAt"])
        sent["s0:id"] = made["models"][0]["id"]
        pages.post(path, sent)
        stored = pages.api("GET", f"/api/combos/{made['id']}")
        assert stored["models"][0]["model"] == "sandbox/story"
        assert stored["models"][0]["id"] == made["models"][0]["id"], "its figures stay with the step"


def test_the_part_that_is_checked_refreshes_alone(pages: Pages) -> None:
    answer = pages.client.post(
        NEW,
        data=form("sandbox/echo", do="check"),
        headers={"Origin": "http://localhost:20128", "HX-Request": "true", "HX-Target": "combo_check"},
    )
    assert answer.status_code == 200
    assert "<html" not in text_of(answer)
    assert "1 target can serve now." in text_of(answer)
