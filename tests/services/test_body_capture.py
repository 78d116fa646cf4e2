"""Captured bodies: what is kept of which requests, what never is, and that nothing else notices."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from omniroute.errors import UpstreamUnreachable
from omniroute.providers.upstream import UpstreamRequest
from omniroute.services import captured_bodies
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app
from tests.services.providers import Reply, ScriptedTransport, json_reply

PROVIDER_KEY = "canary-provider-credential-1"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
FRAMES = (
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,'
    b'"delta":{"content":"Hi"}}]}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
MODEL = "groq/llama-3.3-70b-versatile"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def upstream() -> ScriptedTransport:
    scripted = ScriptedTransport()
    scripted.handler = lambda _: json_reply(ANSWER)
    return scripted


@pytest.fixture
def app(settings: Settings, upstream: ScriptedTransport, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    with whole_app(settings) as built:
        built.own.connections.create({"provider": "groq", "apiKey": PROVIDER_KEY}, SYSTEM)
        monkeypatch.setattr(built.own.inference, "_transport", upstream)
        built.own.snapshots.refresh()
        yield built
        assert built.own.body_capture._held == 0


def capture(app: App, mode: str) -> None:
    answer = app.admin.patch("/api/settings", json={"captureBodies": mode})
    assert answer.status_code == 200, answer.text
    app.own.snapshots.refresh()


def send(app: App, path: str = "/v1/chat/completions", *, key: str | None = None, **changes: Any) -> str:
    """Send a request and return its id."""
    answer = app.client(key or app.admin_key).post(path, json={**CHAT, **changes})
    assert answer.data
    answer.close()
    return answer.headers["X-OmniRoute-Request-Id"]


def shown(app: App, request_id: str, query: str = "") -> dict[str, Any]:
    app.own.request_log.flush()
    found: dict[str, Any] = app.admin.get(f"/api/usage/logs/{request_id}{query}").get_json()
    return found


def bodies(app: App, request_id: str) -> dict[str, Any]:
    found = shown(app, request_id)
    assert found["bodiesState"] == "kept"
    document: dict[str, Any] = found["bodies"]
    return document


def files(app: App) -> list[Path]:
    return sorted((app.own.settings.data_dir / "bodies").glob("*/*"))


def test_nothing_is_kept_until_it_is_switched_on(app: App) -> None:
    request_id = send(app)
    assert app.own.inference.capture is None
    assert (shown(app, request_id)["bodies"], shown(app, request_id)["bodiesState"]) == (None, "off")
    assert files(app) == []


def test_a_whole_answer_that_is_passed_through(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "all")
    upstream.handler = lambda _: Reply(
        body=json.dumps(ANSWER).encode(), headers={"x-request-id": "up-1", "set-cookie": "a=bcdefghijkl"}
    )
    request_id = send(app)
    found = bodies(app, request_id)
    assert json.loads(found["clientRequest"]["body"]["text"]) == CHAT
    assert found["clientRequest"]["url"] == "/v1/chat/completions"
    (attempt,) = found["attempts"]
    assert (attempt["number"], attempt["provider"], attempt["format"]) == (1, "groq", "openai_chat")
    assert attempt["request"]["url"] == "https://api.groq.com/openai/v1/chat/completions"
    assert json.loads(attempt["request"]["body"]["text"])["model"] == "llama-3.3-70b-versatile"
    assert json.loads(attempt["response"]["body"]["text"]) == ANSWER
    assert {"name": "x-request-id", "value": "up-1"} in attempt["response"]["headers"]
    assert "set-cookie" not in {one["name"] for one in attempt["response"]["headers"]}
    given = found["clientResponse"]
    assert (given["status"], json.loads(given["body"]["text"])["choices"]) == (200, ANSWER["choices"])
    assert given["body"]["bytes"] == shown(app, request_id)["log"]["bytesOut"]
    assert shown(app, request_id, "?bodies=false")["bodies"] is None


def test_a_translated_stream_is_kept_as_its_frames(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "all")
    upstream.handler = lambda _: Reply(body=FRAMES, content_type="text/event-stream")
    found = bodies(app, send(app, "/v1/messages", stream=True, max_tokens=9))
    (attempt,) = found["attempts"]
    assert attempt["response"]["body"] == {"text": FRAMES.decode(), "bytes": len(FRAMES), "cut": False}
    assert "event: message_stop" in found["clientResponse"]["body"]["text"]
    assert json.loads(attempt["request"]["body"]["text"])["messages"] == CHAT["messages"]


def test_a_stream_that_is_passed_through(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "all")
    upstream.handler = lambda _: Reply(body=FRAMES, content_type="text/event-stream")
    found = bodies(app, send(app, stream=True))
    assert found["clientResponse"]["body"]["text"].count("data: ") == 3
    assert found["attempts"][0]["response"]["body"]["text"] == FRAMES.decode()


def test_each_attempt_has_its_pair(app: App, upstream: ScriptedTransport) -> None:
    app.own.connections.create({"provider": "groq", "apiKey": "canary-provider-credential-2"}, SYSTEM)
    app.own.snapshots.refresh()
    capture(app, "all")
    replies = [json_reply({"error": {"message": "slow down"}}, 429), json_reply(ANSWER)]
    upstream.handler = lambda _: replies.pop(0)
    found = bodies(app, send(app))
    assert [one["number"] for one in found["attempts"]] == [1, 2]
    assert [one["response"]["status"] for one in found["attempts"]] == [429, 200]
    assert "slow down" in found["attempts"][0]["response"]["body"]["text"]
    assert found["attempts"][0]["connectionId"] != found["attempts"][1]["connectionId"]


def test_a_provider_that_cannot_be_reached(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "all")
    upstream.handler = lambda _: UpstreamUnreachable("Nobody is there.")
    found = bodies(app, send(app))
    assert {one["error"] for one in found["attempts"]} == {"Nobody is there."}
    assert all(one["response"] is None for one in found["attempts"])
    assert found["clientResponse"]["status"] >= 500
    assert "error" in json.loads(found["clientResponse"]["body"]["text"])


def test_with_errors_only_failures_are_kept(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "errors")
    good = send(app)
    upstream.handler = lambda _: json_reply({"error": {"message": "no", "type": "invalid_request_error"}}, 400)
    bad = send(app)
    refused = send(app, model="no/such-model")
    assert (shown(app, good)["bodies"], shown(app, good)["bodiesState"]) == (None, "none")
    assert bodies(app, bad)["clientResponse"]["status"] == 400
    assert bodies(app, refused)["attempts"] == []
    assert len(files(app)) == 2


def test_a_stream_that_its_client_leaves_keeps_what_there_was(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "all")
    upstream.handler = lambda _: Reply(body=FRAMES, content_type="text/event-stream")
    answer = app.admin.post("/v1/chat/completions", json={**CHAT, "stream": True}, buffered=False)
    first = next(iter(answer.response))
    assert first
    answer.close()
    request_id = answer.headers["X-OmniRoute-Request-Id"]
    found = bodies(app, request_id)
    assert shown(app, request_id)["log"]["outcome"] == "cancelled"
    assert found["clientResponse"]["body"]["text"].startswith("data: ")
    assert "[DONE]" not in found["clientResponse"]["body"]["text"]


def test_switching_off_ends_it_and_leaves_what_is_kept(app: App) -> None:
    capture(app, "all")
    kept = send(app)
    capture(app, "off")
    assert app.own.inference.capture is None
    assert shown(app, send(app))["bodiesState"] == "off"
    assert bodies(app, kept)["attempts"]


def test_the_environment_fixes_it(settings: Settings, tmp_path: Path) -> None:
    fixed = Settings.load(
        {"DATA_DIR": str(settings.data_dir), "HOME": str(tmp_path), "CALL_LOG_CAPTURE_BODIES": "errors"}, tmp_path
    )
    with whole_app(fixed) as app:
        assert app.own.body_capture.mode == "errors"
        assert app.own.inference.capture is not None
        assert app.admin.patch("/api/settings", json={"captureBodies": "all"}).status_code == 409
        app.own.snapshots.refresh()
        assert app.own.body_capture.mode == "errors"


def test_no_credential_is_in_any_file(app: App, upstream: ScriptedTransport) -> None:
    capture(app, "all")
    client_key = app.key()
    upstream.handler = lambda request: json_reply({**ANSWER, "echo": [*map(str, request.headers), PROVIDER_KEY]})
    pem = "-----BEGIN PRIVATE KEY-----\nMIIEcanarycanary\n-----END PRIVATE KEY-----"
    secrets = ["sk-canary-0123456789abcdef", "password=canary-hunter2", "Bearer canary.abcdefgh", pem, client_key]
    text = " and ".join(secrets)
    request_id = send(app, key=client_key, messages=[{"role": "user", "content": text}], user=PROVIDER_KEY)
    upstream.handler = lambda _: Reply(
        body=FRAMES.replace(b'"Hi"', json.dumps(f"{PROVIDER_KEY} {text}").encode()), content_type="text/event-stream"
    )
    send(app, "/v1/messages", key=client_key, stream=True, max_tokens=9)
    assert bodies(app, request_id)["attempts"][0]["request"]["headers"]
    assert len(files(app)) == 2
    for path in files(app):
        written = zstandard.ZstdDecompressor().decompress(path.read_bytes()).decode()
        for canary in (PROVIDER_KEY, client_key, client_key[-20:], "canary-", "hunter2", "canary.abc", "MIIEcanary"):
            assert canary not in written, canary
        assert "authorization" not in {one["name"].lower() for one in _headers(json.loads(written))}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def _headers(document: dict[str, Any]) -> list[dict[str, str]]:
    messages = [document["clientRequest"], document["clientResponse"]]
    messages += [part for one in document["attempts"] for part in (one["request"], one["response"])]
    return [header for message in messages for header in message["headers"]]


def test_keys_without_details_leave_nothing(app: App) -> None:
    capture(app, "all")
    send(app, key=app.key(noLog=True))
    assert files(app) == []


def test_large_bodies_are_cut_and_no_credential_is_left_in_halves(app: App) -> None:
    capture(app, "all")
    filling = "x " * ((captured_bodies.MOST_KEPT - 60) // 2)
    content = filling + "sk-canary-0123456789abcdef" + " y" * 10_000
    found = bodies(app, send(app, messages=[{"role": "user", "content": content}]))
    body = found["clientRequest"]["body"]
    assert body["cut"]
    assert body["bytes"] > captured_bodies.MOST_KEPT
    assert captured_bodies.MOST_KEPT - 64 < len(body["text"]) <= captured_bodies.MOST_KEPT
    assert "canary" not in body["text"]
    assert not found["clientResponse"]["body"]["cut"]


@pytest.mark.parametrize("margin", range(0, 40, 7))
def test_a_credential_at_the_very_end_of_what_is_held(app: App, margin: int) -> None:
    capture(app, "all")
    held = captured_bodies.MOST_KEPT + captured_bodies.MARGIN
    before = len(json.dumps({**CHAT, "messages": [{"role": "user", "content": ""}]})) - len('"}]}')
    content = "x" * (held - before - margin - 1) + " " + PROVIDER_KEY + "y" * 10_000
    found = bodies(app, send(app, messages=[{"role": "user", "content": content}]))
    assert "canary" not in json.dumps(found)


def test_what_is_held_is_bounded(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    capture(app, "all")
    monkeypatch.setattr(app.own.body_capture, "_most_held", 10_000)
    found = bodies(app, send(app, messages=[{"role": "user", "content": "x" * 20_000}]))
    assert found["clientRequest"]["body"]["cut"]
    assert found["clientResponse"]["body"] == {
        "text": "",
        "bytes": found["clientResponse"]["body"]["bytes"],
        "cut": True,
    }
    monkeypatch.setattr(app.own.body_capture, "_most_held", 0)
    assert shown(app, send(app))["bodiesState"] == "none"
    assert app.own.body_capture.stats().dropped == 1
    assert "not captured" in str([notice.message for notice in app.own.health.report().overview.warnings])


def test_a_disk_that_takes_nothing_fails_no_request(app: App, caplog: pytest.LogCaptureFixture) -> None:
    capture(app, "all")
    blocked = app.own.settings.data_dir / "bodies"
    blocked.write_text("no directory")
    assert app.admin.post("/v1/chat/completions", json=CHAT).status_code == 200
    request_id = send(app)
    stats = app.own.body_capture.stats()
    assert (stats.failed, stats.written, stats.is_failing) == (2, 0, True)
    assert len([line for line in caplog.messages if "captured bodies cannot be written" in line]) == 1
    assert "Captured bodies cannot be written" in str(
        [notice.message for notice in app.own.health.report().overview.warnings]
    )
    assert shown(app, request_id)["bodiesState"] == "none"
    blocked.unlink()
    assert bodies(app, send(app))["attempts"]
    assert not app.own.body_capture.stats().is_failing


def test_a_file_that_cannot_be_read_hides_no_request(app: App) -> None:
    capture(app, "all")
    request_id = send(app)
    (path,) = files(app)
    path.write_bytes(b"no zstd")
    found = shown(app, request_id)
    assert (found["bodies"], found["bodiesState"], found["log"]["status"]) == (None, "none", 200)


def test_more_attempts_than_are_kept(app: App) -> None:
    captured = captured_bodies.Captured("/v1/chat/completions", [])
    record = next(iter([app.own.usage.get(send_and_log(app)).record]))
    for _ in range(25):
        attempt, _ = captured.begin(UpstreamRequest("POST", "https://x.example/", (), b""), record)
        attempt.body.kept += b"abc"
    attempt, freed = captured.begin(UpstreamRequest("POST", "https://x.example/", (), b""), record)
    assert (len(captured.attempts), captured.attempts[0].number, attempt.number, freed) == (20, 7, 26, 3)


def send_and_log(app: App) -> str:
    request_id = send(app)
    app.own.request_log.flush()
    return request_id


def test_old_requests_say_that_theirs_have_expired(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    capture(app, "all")
    request_id = send(app)
    for path in files(app):
        path.unlink()
    assert shown(app, request_id)["bodiesState"] == "none"
    later: Callable[[], float] = lambda: app.own.usage.get(request_id).record.time + 4 * 86_400  # noqa: E731
    monkeypatch.setattr(app.own.body_capture, "_now", later)
    assert shown(app, request_id)["bodiesState"] == "expired"


def test_removing_requests_removes_their_bodies(app: App) -> None:
    capture(app, "all")
    send(app)
    assert len(files(app)) == 1
    app.admin.post("/api/settings/purge/logs", json={"olderThanDays": 1})
    assert len(files(app)) == 1
    app.admin.post("/api/settings/purge/logs")
    assert files(app) == []


def test_the_translator_s_own_requests_are_kept_too(app: App) -> None:
    capture(app, "all")
    answer = app.admin.post("/api/translator/send", json={"format": "openai_chat", "body": CHAT}).get_json()
    assert answer["ok"]
    assert bodies(app, answer["requestId"])["attempts"][0]["response"]["status"] == 200


def test_the_monitor_of_the_translator_sees_them_as_well(app: App) -> None:
    capture(app, "all")
    app.admin.put("/api/translator/history", json={"enabled": True})
    app.own.snapshots.refresh()
    request_id = send(app, "/v1/messages", max_tokens=9)
    assert bodies(app, request_id)["attempts"][0]["response"]["status"] == 200
    (seen,) = app.admin.get("/api/translator/history").get_json()["translations"]
    assert seen["requestId"] == request_id


def test_the_end_waits_for_what_is_being_written(app: App) -> None:
    begun: list[Callable[[], None]] = []
    slept: list[float] = []
    own = app.own.body_capture
    own._spawn = begun.append

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        begun.pop()()

    own._sleep = sleep
    capture(app, "all")
    send(app)
    send(app)
    assert (len(begun), files(app)) == (1, [])
    own.stop()
    assert (len(slept), len(files(app))) == (1, 2)
    assert app.own.inference.capture is None


def test_whatever_writing_fails_with(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> bytes:
        raise RecursionError

    monkeypatch.setattr(captured_bodies.Captured, "render", fail)
    capture(app, "all")
    send(app)
    assert app.own.body_capture.stats().failed == 1
