"""The logs, one request of them, and the audit log."""

from __future__ import annotations

import logging
import re

import pytest

from omniroute.blueprints.dashboard.audit import changes
from omniroute.blueprints.dashboard.reasons import _REASONS, reason_text
from omniroute.blueprints.dashboard.request_bodies import parts_of
from omniroute.blueprints.dashboard.request_detail import attempt_bar
from omniroute.routing.plan import Reason
from tests.blueprints.dashboard.conftest import Pages, text_of
from tests.blueprints.dashboard.test_usage import log, record


def asked(pages: Pages, model: str, text: str = "Hello") -> str:
    """Send a request and return its id once it is settled."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    answer = pages.app.client().post("/v1/chat/completions", json=body)
    pages.app.own.request_log.flush()
    return str(answer.headers["X-OmniRoute-Request-Id"])


def test_no_request_yet_shows_one_to_copy(pages: Pages) -> None:
    page = pages.get("/dashboard/logs")
    assert "No request yet" in page
    assert "curl http://localhost/v1/chat/completions" in page


def test_requests_are_listed_and_filtered(pages: Pages) -> None:
    key = pages.api("POST", "/api/keys", {"name": "laptop"})["id"]
    combo = pages.api("POST", "/api/combos", {"name": "safe", "models": ["sandbox/story"]})["id"]
    log(
        pages,
        record(1, api_key_id=key, combo_id=combo),
        record(2, outcome="failed", status=502, error_code="upstream_error", requested_model="<b>bold</b>"),
        record(3, provider="claude", model="opus", requested_model="claude/opus", duration_ms=12_000.0),
    )
    page = pages.get("/dashboard/logs")
    assert page.count("<tr data-id=") == 3
    assert "<b>bold</b>" not in pages.client.get("/dashboard/logs").get_data(as_text=True)
    for query, expected in (
        ("status=failed", "req_0002"),
        ("status=502", "req_0002"),
        ("provider=claude", "req_0003"),
        ("model=opus", "req_0003"),
        ("key=laptop", "req_0001"),
        ("combo=safe", "req_0001"),
        ("minimum=2.5", "req_0003"),
        ("q=opus", "req_0003"),
    ):
        found = re.findall(r'<tr data-id="([^"]+)"', pages.get(f"/dashboard/logs?{query}"))
        assert found == [expected], query
    assert "No request fits the filters" in pages.get("/dashboard/logs?q=nothing-like-it")
    assert 'data-live="/api/usage/logs/stream?status=failed"' in pages.get("/dashboard/logs?status=failed")
    assert "data-live=" not in pages.get("/dashboard/logs?until=2030-01-01T00:00"), "an end leaves nothing to follow"


@pytest.mark.parametrize("query", ["status=odd", "since=yesterday", "minimum=long"])
def test_a_filter_that_is_wrong_is_said_and_kept(pages: Pages, query: str) -> None:
    answer = pages.client.get(f"/dashboard/logs?{query}")
    assert answer.status_code == 400
    page = text_of(answer)
    assert 'role="alert"' in page
    assert query.partition("=")[2] in page


def test_the_rows_refresh_alone_and_are_paged(pages: Pages) -> None:
    log(pages, *(record(number) for number in range(60)))
    assert "1–50 of 60" in pages.get("/dashboard/logs")
    second = pages.get("/dashboard/logs?offset=50")
    assert second.count("<tr data-id=") == 10
    assert "data-live=" not in second
    block = pages.block("/dashboard/logs", "rows")
    assert "<html" not in block.get_data(as_text=True)
    again = pages.client.get(
        "/dashboard/logs",
        headers={"HX-Request": "true", "HX-Target": "rows", "If-None-Match": block.headers["ETag"]},
    )
    assert again.status_code == 304


def test_requests_in_flight(pages: Pages) -> None:
    assert "No request is in flight" in pages.get("/dashboard/logs?tab=active")
    page = pages.after(pages.post("/dashboard/logs/cancel", {"requestId": "req_none"}))
    assert "No request with this id is in flight" in page


def test_the_application_log(pages: Pages) -> None:
    logging.getLogger("omniroute.test").warning("a <strange> thing happened")
    page = pages.get("/dashboard/logs?tab=application&level=warning")
    assert "Least level" in page
    raw = pages.client.get("/dashboard/logs?tab=application").get_data(as_text=True)
    assert "<strange>" not in raw
    assert "No line fits the filters" in pages.get("/dashboard/logs?tab=application&q=nothing-like-it")


def test_a_request_in_all_its_parts(pages: Pages) -> None:
    pages.api("POST", "/api/combos", {"name": "safe", "models": ["sandbox/fail-500", "sandbox/story"]})
    request_id = asked(pages, "safe")
    here = f"/dashboard/logs/requests/{request_id}"
    page = pages.get(here)
    for text in ("Summary", request_id, "succeeded", "2 attempts", "sandbox/story", "passed through", "Receipt"):
        assert text in page, text
    attempts = pages.get(f"{here}?tab=attempts")
    assert attempts.count('class="timeline"') >= 2
    assert "transient" in attempts
    decision = pages.get(f"{here}?tab=decision")
    for text in ("Asked", "Resolved", "Possible, in this order", "Tried", "Answer", "Strategy: priority", "served"):
        assert text in decision, text
    assert "Why this answer" in decision, "the same in words"
    bodies = pages.get(f"{here}?tab=bodies")
    assert "Bodies are not kept" in bodies
    assert 'href="/dashboard/settings?tab=advanced"' in bodies


def test_the_bodies_of_a_request(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"captureBodies": "all"})
    pages.app.own.snapshots.refresh()
    pages.api("POST", "/api/combos", {"name": "safe", "models": ["sandbox/fail-500", "sandbox/echo"]})
    pages.app.own.snapshots.refresh()
    request_id = asked(pages, "safe", "<script>alert(1)</script>" + "x" * 5000)
    here = f"/dashboard/logs/requests/{request_id}?tab=bodies"
    page = pages.get(here)
    for text in (
        "Client request",
        "Upstream request",
        "Upstream response",
        "Client response",
        "attempt 2: sandbox / echo",
    ):
        assert text in page, text
    assert page.count("<h2 id=") == 6
    assert page.count("Show the text") >= 4
    raw = pages.client.get(here).get_data(as_text=True)
    assert "<script>alert" not in raw
    assert "&lt;script&gt;alert" in raw
    assert f'href="/api/usage/logs/{request_id}" download=' in raw
    opened = pages.get(f"/dashboard/translator?tab=playground&log={request_id}")
    assert "alert(1)" in opened
    assert "<script>alert" not in pages.client.get(f"/dashboard/translator?log={request_id}").get_data(as_text=True)

    pages.api("PATCH", "/api/settings", {"captureBodies": "errors"})
    pages.app.own.snapshots.refresh()
    request_id = asked(pages, "sandbox/echo")
    assert "were not kept" in pages.get(f"/dashboard/logs/requests/{request_id}?tab=bodies")
    answer = pages.client.get(f"/dashboard/translator?tab=playground&log={request_id}")
    assert answer.status_code == 400
    assert "no longer kept" in text_of(answer)


def test_long_cut_and_missing_bodies_say_so() -> None:
    def body(text: str, *, cut: bool = False) -> dict[str, object]:
        return {"text": text, "bytes": len(text), "cut": cut}

    asked_for = {"method": "POST", "url": "/v1/messages", "headers": [], "body": body("{" + "x" * 70_000, cut=True)}
    tried = {"number": 1, "provider": "p", "model": "m", "request": asked_for | {"body": body('{"a":[1]}')}}
    found = parts_of(
        {
            "clientRequest": asked_for,
            "attempts": [tried | {"response": None, "error": "Nobody is there."}],
            "clientResponse": None,
        }
    )
    assert [part.is_missing for part in found] == [False, False, True, True]
    first, second, third, _fourth = found
    assert (first.is_cut, first.is_shortened, first.is_long, first.is_openable) == (True, True, True, False)
    assert (second.text, second.is_long, second.line) == ('{\n  "a": [\n    1\n  ]\n}', False, "POST /v1/messages")
    assert third.error == "Nobody is there."


def test_a_request_that_the_gateway_refused(pages: Pages) -> None:
    request_id = asked(pages, "nobody/nothing")
    here = f"/dashboard/logs/requests/{request_id}"
    assert "nobody" in pages.get(here)
    assert "Nobody was asked" in pages.get(f"{here}?tab=attempts")
    assert "No decision record" in pages.get(f"{here}?tab=decision")


def test_a_request_that_is_not_there(pages: Pages) -> None:
    answer = pages.client.get("/dashboard/logs/requests/req_nothing")
    assert answer.status_code == 404
    assert "This request is not in the log" in text_of(answer)


def test_every_reason_has_words(pages: Pages) -> None:
    assert set(_REASONS) == {str(reason) for reason in Reason}
    with pages.app.app.test_request_context():
        assert reason_text("capability:tools") == "it lacks what the request needs (tools)"
        assert reason_text("cooling", "429") == "it rests after a failure (429)"
        assert reason_text("quite new") == "quite new"


def test_an_attempt_is_drawn_by_its_parts() -> None:
    good = {"startedMs": 0, "connectedMs": 10, "firstContentMs": 50, "endedMs": 100, "failureClass": None}
    drawn = attempt_bar(good, 100)
    assert [kind in drawn for kind in ("connect", "first", "content", "failed")] == [True, True, True, False]
    bad = good | {"connectedMs": None, "firstContentMs": None, "failureClass": "transient"}
    drawn = attempt_bar(bad, 100)
    assert [kind in drawn for kind in ('"connect"', '"content"', '"failed"')] == [False, False, True]
    broken = good | {"failureClass": "transient"}
    assert '"failed"' in attempt_bar(broken, 100)


def test_the_audit_log_shows_values_as_text(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"appearance": {"density": "compact"}})
    pages.api("POST", "/api/keys", {"name": "<i>laptop</i>"})
    page = pages.get("/dashboard/audit")
    assert "settings.changed" in page
    assert "before" in page
    assert "compact" in page
    assert "<i>laptop</i>" not in pages.client.get("/dashboard/audit").get_data(as_text=True)
    assert "key.created" not in pages.get("/dashboard/audit?action=settings.")
    assert "No entry fits the filters" in pages.get("/dashboard/audit?actor=nobody")
    assert pages.client.get("/dashboard/audit?since=yesterday").status_code == 400


def test_the_chain_is_checked_and_the_log_exported(pages: Pages) -> None:
    page = pages.get("/dashboard/audit?check=yes&action=auth.")
    assert "The chain is whole" in page
    links = re.findall(r'href="(/api/audit/export[^"]+)"', page)
    assert len(links) == 2
    written = pages.client.get(links[0]).get_data(as_text=True).splitlines()
    assert written[0].startswith("id,seq,time,action")
    assert all("auth." in line for line in written[1:])
    pages.app.own.database.write(
        lambda sql: sql.exec_driver_sql("UPDATE audit_log SET actor = 'somebody else' WHERE seq = 1")
    )
    assert "The chain is broken at entry 1" in pages.get("/dashboard/audit?check=yes")


def test_details_of_an_audit_entry_are_divided() -> None:
    pairs = {"rpm": [1, 2], "list": [["a"], ["a", "b"]], "name": "x"}
    found = changes("settings.changed", pairs)
    assert found["changed"] == [("rpm", "1", "2"), ("list", '["a"]', '["a", "b"]')]
    assert found["others"] == [("name", "x")]
    assert changes("pricing.changed", {"set": ["a/b", "c/d"]})["changed"] == []
    assert changes("any", {"limit": {"old": None, "new": 5}})["changed"] == [("limit", "null", "5")]
