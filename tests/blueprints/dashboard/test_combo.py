"""The page of one combo: its figures, decisions, a test of its targets, and the fire drill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.blueprints.dashboard.conftest import Pages, text_of
from tests.blueprints.dashboard.emptied import empty, opened
from tests.blueprints.dashboard.provider_world import connect, node


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with opened(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture
def pages(world: Pages) -> Iterator[Pages]:
    yield world
    empty(world)


def make(pages: Pages, *models: Any, **fields: Any) -> tuple[str, str]:
    """Return the page of a new combo, and its id."""
    made = pages.api("POST", "/api/combos", {"name": "mine", "models": list(models), **fields})
    return f"/dashboard/combos/{made['id']}", made["id"]


def ask(pages: Pages, times: int = 1) -> None:
    body = {"model": "mine", "messages": [{"role": "user", "content": "hello"}]}
    for _ in range(times):
        pages.app.admin.post("/v1/chat/completions", json=body)
    pages.app.own.request_log.flush()


def test_a_combo_that_was_never_asked(pages: Pages) -> None:
    path, _id = make(pages, "sandbox/echo", "nowhere/model", description="About it")
    page = pages.get(path)
    for text in ("About it", "No request yet", "No request in the last 24 hours.", "no active connection", "1 of 1"):
        assert text in page
    assert "leads nowhere now" in page, "what the API warns of"


def test_traffic_and_decisions_are_shown(pages: Pages) -> None:
    path, _id = make(pages, "sandbox/fail-500", "sandbox/echo", config={"maxRetries": 0})
    ask(pages, 3)
    page = pages.get(path)
    assert "Share of traffic by target" in page
    assert "Attempts of the last requests" in page
    assert "100%" in page
    assert page.count("Show table") == 2
    row = pages.api("GET", "/api/usage/logs?limit=1")["logs"][0]
    assert row["requestId"] in page
    assert "<html" not in text_of(pages.block(path, "combo_now"))


def test_the_targets_are_tried(pages: Pages) -> None:
    path, _id = make(pages, "sandbox/echo", "sandbox/fail-401", "nowhere/model")
    page = text_of(pages.post(f"{path}/test", expect=200))
    for text in ("Test results", "answered", "failed", "skipped"):
        assert text in page


def test_the_drill_shows_the_order_that_is_left(pages: Pages) -> None:
    path, _id = make(pages, "sandbox/echo", "sandbox/story")
    before = pages.api("GET", "/api/usage/logs?limit=1")["total"]
    page = pages.get(f"{path}?drill=1&fail=sandbox/echo")
    assert "sandbox/story would answer." in page
    assert "taken to fail" in page
    assert "Nobody would answer" in pages.get(f"{path}?drill=1&fail=sandbox")
    assert "sandbox/echo would answer." in pages.get(f"{path}?drill=1")
    assert "is neither a target nor" in pages.get(f"{path}?drill=1&fail=groq/x")
    pages.app.own.request_log.flush()
    assert pages.api("GET", "/api/usage/logs?limit=1")["total"] == before, "nothing was sent"


def test_the_drill_calls_an_own_endpoint_by_its_prefix(pages: Pages) -> None:
    identity = node(pages, "lab")
    connect(pages, identity)
    path, _id = make(pages, "lab/some-model", "sandbox/echo")
    page = pages.get(path)
    assert "All of the provider lab" in page
    assert f"All of the provider {identity}" not in page
    drill = pages.get(f"{path}?drill=1&fail={identity}")
    assert "sandbox/echo would answer." in drill


def test_the_figures_begin_anew(pages: Pages) -> None:
    path, combo_id = make(pages, "sandbox/echo")
    assert "The figures begin now." in pages.after(pages.post(f"{path}/reset"))
    assert pages.api("GET", f"/api/combos/metrics?combo={combo_id}")["metrics"] == []


def test_an_unknown_combo_is_not_found(pages: Pages) -> None:
    answer = pages.client.get("/dashboard/combos/combo_none", headers={"Accept": "text/html"})
    assert answer.status_code == 404
