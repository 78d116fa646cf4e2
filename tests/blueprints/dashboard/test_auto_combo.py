"""Auto Combo: weights, what is left out, candidates and the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.routing.config import FACTORS
from tests.blueprints.dashboard.conftest import Pages, field_of, text_of
from tests.blueprints.dashboard.emptied import empty, opened

PATH = "/dashboard/auto-combo"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with opened(tmp_path_factory.mktemp("pages")) as pages:
        yield pages


@pytest.fixture
def pages(world: Pages) -> Iterator[Pages]:
    yield world
    empty(world)


def form(**fields: Any) -> dict[str, Any]:
    weights = {f"weight-{name}": "0" for name in FACTORS}
    return {"channel": "auto", "apiKeyId": "", **weights, "weight-cost": "1", "exploration": "5", **fields}


def test_each_channel_has_its_weights_and_candidates(pages: Pages) -> None:
    page = pages.get(PATH)
    assert field_of(page, "weight-latency") == "0.2"
    assert field_of(page, "exploration") == "5"
    assert "sandbox/echo" in page
    assert "eligible" in page
    assert page.count("/dashboard/auto-combo?channel=auto") >= 7
    assert field_of(pages.get(f"{PATH}?channel=auto/cheap"), "weight-cost") == "0.6"
    assert "<h2" in pages.get(f"{PATH}?channel=luck"), "an unknown channel shows the usual one"
    assert "<html" not in text_of(pages.block(PATH, "candidates"))


def test_a_channel_is_tuned_and_given_back(pages: Pages) -> None:
    sent = form(**{"exclude-models": "sandbox/echo\nsandbox/json", "exploration": "10"})
    assert "The channel auto is saved." in pages.after(pages.post(PATH, sent))
    stored = pages.api("GET", "/api/combos/auto/auto")
    assert stored["weights"]["cost"] == 1.0
    assert stored["exploration"] == 0.1
    assert stored["exclude"]["models"] == ["sandbox/echo", "sandbox/json"]
    page = pages.get(PATH)
    assert field_of(page, "exclude-models") == "sandbox/echo\nsandbox/json"
    pages.post(f"{PATH}/reset", {"channel": "auto"})
    assert pages.api("GET", "/api/combos/auto/auto")["weights"]["latency"] == 0.2


def test_a_channel_is_tuned_for_one_key(pages: Pages) -> None:
    key = pages.api("POST", "/api/keys", {"name": "laptop"})
    led = pages.post(PATH, form(apiKeyId=key["id"]))
    assert f"apiKeyId={key['id']}" in led.headers["Location"]
    assert field_of(pages.after(led), "weight-cost") == "1"
    assert pages.api("GET", "/api/combos/auto/auto")["weights"]["cost"] == 0.2


@pytest.mark.parametrize(
    ("wrong", "mark"),
    [
        ({"exploration": "90"}, 'id="f-exploration-fault"'),
        ({"exploration": "often"}, 'id="f-exploration-fault"'),
        ({"exclude-providers": "nobody"}, "field-error"),
        ({"weight-cost": "much"}, "field-error"),
    ],
)
def test_wrong_values_keep_what_was_typed(pages: Pages, wrong: dict[str, str], mark: str) -> None:
    page = text_of(pages.post(PATH, form(**wrong), expect=400))
    assert mark in page
    for name, value in wrong.items():
        assert field_of(page, name) == value
    assert pages.api("GET", "/api/combos/auto/auto")["weights"]["latency"] == 0.2


def test_the_simulator_plans_and_sends_nothing(pages: Pages) -> None:
    page = pages.get(f"{PATH}?channel=auto/fast&simulate=1&promptTokens=500&tools=1")
    assert 'class="dry-place">1<' in page
    assert pages.api("GET", "/api/usage/logs?limit=1")["total"] == 0
