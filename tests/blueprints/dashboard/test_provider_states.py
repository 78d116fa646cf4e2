"""In which words a provider's state is told, to which group it belongs, and what hinders a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask_babel import Babel

from omniroute.blueprints.dashboard import provider_states as states

ROW: dict[str, Any] = {
    "id": "x",
    "alias": "x",
    "isNode": False,
    "services": ["chat"],
    "tier": "cheap",
    "status": "ok",
    "note": None,
    "replacedBy": [],
    "authKinds": ["apikey"],
}


@pytest.fixture(autouse=True)
def _in_english() -> Iterator[None]:
    app = Flask("test")
    Babel(app)
    with app.test_request_context():
        yield


def connection(status: str, *, is_active: bool = True, until: str | None = None) -> dict[str, Any]:
    return {"status": status, "isActive": is_active, "cooldownUntil": until}


@pytest.mark.parametrize(
    ("rows", "name", "label", "usable"),
    [
        ([], "none", "Not connected", 0),
        ([connection("ok", is_active=False)], "off", "Switched off", 0),
        ([connection("ok"), connection("untested")], "ok", "Working", 2),
        ([connection("untested")], "untested", "Not tested", 1),
        ([connection("ok"), connection("dead")], "partly", "Partly failing", 1),
        ([connection("ok"), connection("cooling")], "ok", "Partly resting", 1),
        ([connection("cooling", until="b"), connection("error")], "resting", "Resting", 0),
        ([connection("error"), connection("dead")], "failing", "Failing", 0),
        ([connection("error"), connection("ok", is_active=False)], "failing", "Failing", 0),
    ],
)
def test_the_state_in_a_word(rows: list[dict[str, Any]], name: str, label: str, usable: int) -> None:
    found = states.state_of(ROW, rows, {})
    assert (found.name, found.label, found.ok, found.total) == (name, label, usable, len(rows))
    assert found.is_failing is (name in ("failing", "partly"))


def test_the_first_that_is_tried_again_counts() -> None:
    rows = [connection("cooling", until="2027-01-02"), connection("cooling", until="2027-01-01"), connection("ok")]
    assert states.state_of(ROW, rows, {}).until == "2027-01-01"


@pytest.mark.parametrize("name", ["x", "prefix"])
def test_an_open_breaker_is_told_first(name: str) -> None:
    breakers = {name: {"retryAt": "2027-01-03"}}
    found = states.state_of({**ROW, "alias": "prefix"}, [connection("ok")], breakers)
    assert (found.label, found.until, found.is_failing) == ("Down", "2027-01-03", True)
    assert states.state_of(ROW, [], {"x": {"retryAt": None}}).name == "none"


@pytest.mark.parametrize(
    ("changes", "group"),
    [
        ({}, "cheap"),
        ({"isNode": True, "services": ["embeddings"]}, "custom"),
        ({"services": ["tts"]}, "media"),
        ({"services": ["search"]}, "search"),
        ({"services": ["search", "chat"], "tier": "free"}, "free"),
    ],
)
def test_groups(changes: dict[str, Any], group: str) -> None:
    assert states.group_of({**ROW, **changes}) == group
    assert group in states.GROUPS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"authKinds": ["none"]}, ""),
        ({"id": "sandbox"}, "It is built in and always connected."),
        ({"authKinds": ["oauth"]}, "It is used with a login, not with a key. This release has no such logins."),
        ({"status": "discontinued"}, "This service has ended."),
        ({"status": "discontinued", "note": "Gone.", "replacedBy": ["a", "b"]}, "Gone. Use a / b."),
    ],
)
def test_what_hinders_a_connection(changes: dict[str, Any], reason: str) -> None:
    assert states.obstacle({**ROW, **changes}) == reason
