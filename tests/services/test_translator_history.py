"""The last translations of real traffic: what is seen, what is kept, and for how long."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.services import translator_history
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.services.providers import Reply, ScriptedTransport, json_reply

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
MODEL = "groq/llama-3.3-70b-versatile"
MESSAGES: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 9,
    "top_k": 4,
    "messages": [{"role": "user", "content": "Hello"}],
}


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    with whole_app(settings) as built:
        built.own.connections.create({"provider": "groq", "apiKey": "sk-live-0123456789abcdefghij"}, SYSTEM)
        scripted = ScriptedTransport()
        scripted.handler = lambda _: json_reply(ANSWER)
        monkeypatch.setattr(built.own.inference, "_transport", scripted)
        built.own.snapshots.refresh()
        yield built


def switch(app: App, *, is_on: bool) -> None:
    assert app.admin.put("/api/translator/history", json={"enabled": is_on}).get_json() == {"enabled": is_on}
    app.own.snapshots.refresh()


def send(app: App, key: str | None = None, **changes: Any) -> None:
    answer = app.client(key or app.admin_key).post("/v1/messages", json={**MESSAGES, **changes})
    assert answer.status_code == 200, answer.text


def seen(app: App, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = app.admin.get(f"/api/translator/history{query}").get_json()
    return found


def test_nothing_is_seen_until_it_is_switched_on(app: App) -> None:
    send(app)
    assert app.own.inference.monitor is None
    assert seen(app) == {"enabled": False, "translations": [], "next": None}


def test_a_translation_is_seen(app: App) -> None:
    switch(app, is_on=True)
    send(app)
    found = seen(app)
    (one,) = found["translations"]
    assert found["enabled"]
    assert found["next"] == one["id"]
    assert (one["from"], one["to"], one["model"]) == ("anthropic_messages", "openai_chat", MODEL)
    assert one["losses"] == [{"path": "top_k", "reason": one["losses"][0]["reason"]}]
    assert one["clientRequest"] == MESSAGES
    assert one["upstreamRequest"]["messages"] == MESSAGES["messages"]
    assert one["sizes"]["clientRequest"] > 0
    assert (one["status"], one["outcome"]) == (200, "success")


def test_passthrough_is_no_translation(app: App) -> None:
    switch(app, is_on=True)
    body = {"model": MODEL, "messages": MESSAGES["messages"]}
    assert app.admin.post("/v1/chat/completions", json=body).status_code == 200
    assert seen(app)["translations"] == []


def test_only_what_is_new(app: App) -> None:
    switch(app, is_on=True)
    send(app)
    first = seen(app)["next"]
    assert seen(app, f"?after={first}") == {"enabled": True, "translations": [], "next": first}
    send(app, max_tokens=8)
    (one,) = seen(app, f"?after={first}")["translations"]
    assert one["clientRequest"]["max_tokens"] == 8
    assert [row["id"] for row in seen(app)["translations"]] == [one["id"], first]


def test_a_cursor_is_checked(app: App) -> None:
    assert error_of(app.admin.get("/api/translator/history?after=x"))["details"][0]["field"] == "after"


def test_large_bodies_are_not_kept(app: App) -> None:
    switch(app, is_on=True)
    send(app, system="x" * translator_history.LARGEST_BODY)
    (one,) = seen(app)["translations"]
    assert (one["clientRequest"], one["upstreamRequest"]) == (None, None)
    assert one["sizes"]["upstreamRequest"] > translator_history.LARGEST_BODY


def test_what_was_seen_is_forgotten_when_it_is_switched_off(app: App, settings: Settings) -> None:
    switch(app, is_on=True)
    send(app)
    file = settings.data_dir / "runtime" / "translations.ndjson"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    switch(app, is_on=False)
    send(app)
    assert not file.exists()
    assert seen(app) == {"enabled": False, "translations": [], "next": None}
    assert app.admin.get("/api/audit?action=settings.changed").get_json()["total"] >= 2


def test_a_key_without_details_is_not_watched(app: App) -> None:
    switch(app, is_on=True)
    send(app, key=app.key(noLog=True))
    assert seen(app)["translations"] == []


def test_failures_are_seen_with_their_status(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedTransport()
    scripted.handler = lambda _: Reply(400, b'{"error":{"message":"no","type":"invalid_request_error"}}')
    monkeypatch.setattr(app.own.inference, "_transport", scripted)
    switch(app, is_on=True)
    app.admin.post("/v1/messages", json=MESSAGES)
    (one,) = seen(app)["translations"]
    assert (one["status"], one["outcome"]) == (400, "failed")


def test_only_the_last_ones_are_kept(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator_history, "MOST", 2)
    monkeypatch.setattr(translator_history, "_MOST_BYTES", 1)
    switch(app, is_on=True)
    for number in range(1, 5):
        send(app, max_tokens=number)
    assert [one["clientRequest"]["max_tokens"] for one in seen(app)["translations"]] == [4, 3]


def test_a_line_that_is_being_written_is_left_out(app: App, settings: Settings) -> None:
    switch(app, is_on=True)
    send(app)
    with (settings.data_dir / "runtime" / "translations.ndjson").open("ab") as file:
        file.write(b'{"id": 99')
    assert len(seen(app)["translations"]) == 1
