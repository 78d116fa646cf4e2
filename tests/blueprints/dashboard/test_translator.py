"""The translator by forms alone: playground, chat tester, test bench, live monitor."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from omniroute.blueprints.dashboard import translator_bench, translator_samples, translator_tester
from omniroute.services.keys import SYSTEM
from omniroute.services.translator import FORMATS
from omniroute.services.translator_cases import CASES
from tests.blueprints.dashboard.conftest import Pages, field_of, text_of
from tests.e2e.processes import wait_until
from tests.services.providers import ScriptedTransport, json_reply

PAGE = "/dashboard/translator"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello there"}], "logit_bias": {"5": 1}}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def translate(pages: Pages, body: Any, *, expect: int = 200, **form: str) -> str:
    """Send the form of the playground and return the page that comes."""
    typed = body if isinstance(body, str) else json.dumps(body)
    given = {"tab": "playground", "source": "openai_chat", "target": "anthropic_messages", "direction": "request"}
    return text_of(pages.post(PAGE, {**given, "do": "translate", "body": typed, **form}, expect=expect))


# --- playground ------------------------------------------------------------------------------------------------------


def test_the_playground_opens_with_a_sample_and_its_translation(pages: Pages) -> None:
    page = pages.get(PAGE)
    assert "Why is the sky blue?" in field_of(page, "body")
    assert re.search(r'id="result">{\n  "model": "gpt-5-mini",\n  "max_tokens": 200', page)
    assert "<code>frequency_penalty</code>" in page
    assert "The target knows no such setting" in page


def test_every_sample_can_be_translated_from_every_format(pages: Pages) -> None:
    with pages.app.app.test_request_context():
        choices = [value for _, rows in translator_samples.names() for value, _ in rows]
    assert len(choices) > 9
    for choice in choices:
        for wire in FORMATS:
            page = pages.get(f"{PAGE}?tab=playground&source={wire}&target=openai_chat&sample={choice}")
            assert 'id="result"' in page, (choice, wire)
            assert f'<option value="{choice}" selected' in page
            assert f'<option value="{translator_samples.direction_of(choice)}" selected' in page


def test_what_is_typed_is_translated_with_its_losses_and_the_difference(pages: Pages) -> None:
    page = translate(pages, CHAT)
    assert '"max_tokens"' in page
    assert "<code>logit_bias</code>" in page
    assert "Hello there" in field_of(page, "body")
    assert '-  "logit_bias"' in page or "logit_bias" in page.split('id="difference"')[1]
    assert "Nothing is lost." in translate(pages, {"model": "m", "messages": CHAT["messages"], "max_tokens": 5})


def test_a_stream_is_translated_frame_by_frame(pages: Pages) -> None:
    stream = translator_samples.STREAMS["tools"][1]
    page = translate(pages, stream, direction="stream")
    assert "event: content_block_start" in page
    assert 'id="folded"' in page
    assert "get_weather" in page


def test_what_is_wrong_with_a_body_stands_at_the_body_and_what_was_typed_stays(pages: Pages) -> None:
    page = translate(pages, '{"model": "m", <b>', expect=400)
    assert '{"model": "m", <b>' in page
    assert "f-body-fault" in page
    assert "validation_failed" in page
    page = translate(pages, {"model": "m"}, expect=400)
    assert "messages: is required" in page
    page = translate(pages, "data: nope\n\n", direction="stream", expect=400)
    assert "f-body-fault" in page
    page = translate(pages, CHAT, target="no-such-format", expect=400)
    assert "f-target-fault" in page


def test_a_format_is_detected(pages: Pages) -> None:
    body = {"model": "m", "max_tokens": 3, "system": "x", "messages": [{"role": "user", "content": "hi"}]}
    page = translate(pages, body, do="detect")
    assert "This is written in Anthropic Messages: Request." in page
    assert "'max_tokens' is given" in page
    assert '<option value="anthropic_messages" selected>' in page
    assert "Nothing tells in which format" in translate(pages, {"a": 1}, do="detect")
    assert "f-body-fault" in translate(pages, "{", do="detect", expect=400)


def test_a_sample_is_loaded_in_the_chosen_formats(pages: Pages) -> None:
    form = {"tab": "playground", "do": "sample", "source": "gemini", "target": "ollama", "sample": "request:tools"}
    page = pages.after(pages.post(PAGE, form))
    assert '"functionDeclarations"' in field_of(page, "body")
    assert '<option value="ollama" selected>' in page


# --- chat tester -----------------------------------------------------------------------------------------------------


def send(pages: Pages, *, expect: int = 200, **form: str) -> str:
    """Send the form of the chat tester."""
    given = {"tab": "tester", "format": "anthropic_messages", "model": "sandbox/echo", "message": "Hello lighthouse"}
    return text_of(pages.post(PAGE, {**given, **form}, expect=expect))


def test_a_message_is_sent_and_every_stage_is_shown(pages: Pages) -> None:
    page = send(pages)
    for title in ("Request of the client", "Chosen target", "Request to sandbox", "Answer of sandbox"):
        assert title in page
    assert "Answer to the client" in page
    assert '"text":"Hello lighthouse"' in page
    assert "/v1/messages" in page
    assert 'class="figure good">200' in page


def test_a_message_can_be_sent_in_every_format(pages: Pages) -> None:
    for wire in FORMATS:
        page = send(pages, format=wire, stream="true")
        assert 'class="figure good">200' in page, wire
        assert "lighthouse" in page.split("Answer to the client")[1], wire


def test_what_failed_is_part_of_the_way(pages: Pages) -> None:
    page = send(pages, model="sandbox/fail-429")
    assert 'class="figure bad">429' in page
    assert "rate_limit_exceeded" in page
    page = send(pages, model="no-such/model")
    assert "No target was chosen" in page


def test_a_whole_body_is_sent_as_it_is(pages: Pages) -> None:
    body = {"max_tokens": 7, "messages": [{"role": "user", "content": "own body"}]}
    assert '"max_tokens": 7' in send(pages, body=json.dumps(body), message="")
    page = send(pages, body="{nonsense", expect=400)
    assert "{nonsense" in page
    assert "f-body-fault" in page


def test_a_request_goes_on_the_account_of_a_key(pages: Pages) -> None:
    made = pages.api("POST", "/api/keys", {"name": "lamp"})
    page = send(pages, key="lamp")
    assert 'class="figure good">200' in page
    assert made["key"] not in page
    pages.app.own.request_log.flush()
    (row,) = pages.api("GET", "/api/usage/logs")["logs"]
    assert row["apiKeyId"] == made["id"]
    page = send(pages, key="nobody", expect=400)
    assert "f-key-fault" in page
    assert "Hello lighthouse" in page


def test_what_is_missing_is_said_at_its_field(pages: Pages) -> None:
    page = send(pages, model="", message="", expect=400)
    assert "f-model-fault" in page
    assert "f-message-fault" in page


def test_the_way_is_drawn_for_a_script(pages: Pages) -> None:
    asked = {
        "format": "openai_chat",
        "model": "sandbox/echo",
        "body": {"messages": [{"role": "user", "content": "<b>"}]},
    }
    sent = pages.api("POST", "/api/translator/send", asked)
    answer = pages.client.post(f"{PAGE}/way", json=sent, headers={"Origin": "http://localhost:20128"})
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "<b>" not in answer.text
    wrong = pages.client.post(f"{PAGE}/way", json={"ok": 1}, headers={"Origin": "http://localhost:20128"})
    assert wrong.status_code == 400


def test_there_is_a_least_body_for_every_format() -> None:
    assert set(translator_tester.BODIES) == set(FORMATS)
    asked = translator_tester.with_message(translator_tester.BODIES["gemini"], "hi")
    assert asked == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


# --- test bench ------------------------------------------------------------------------------------------------------


def run(pages: Pages, **form: Any) -> tuple[str, str]:
    """Start a run, wait for its end, and return its address and page."""
    answer = pages.post(PAGE, {"tab": "bench", "live": "false", **form})
    address = answer.headers["Location"]
    return address, wait_until(lambda: _done(pages, address), within_s=20, what="the run ends")


def _done(pages: Pages, address: str) -> str:
    page = pages.get(address)
    return page if "Export as JSON" in page else ""


def test_a_run_without_providers_is_a_matrix_with_evidence(pages: Pages) -> None:
    assert "No run yet" in pages.get(f"{PAGE}?tab=bench")
    address, page = run(
        pages, cases=["text", "tools"], formats=["openai_chat", "gemini"], targets=["anthropic_messages"]
    )
    assert "4 work, 0 failed" in page
    assert "Target: Anthropic Messages" in page
    assert page.count("show the evidence") == 4
    assert 'data-every="2"' not in page
    page = pages.get(f"{address}&cell=3")
    assert "Tools in Gemini at Anthropic Messages" in page
    assert "functionDeclarations" in page
    assert 'id="evidence"' not in pages.get(f"{address}&cell=99")
    job_id = address.rpartition("=")[2]
    assert pages.api("GET", f"/api/jobs/{job_id}")["result"]["ok"] == 4
    assert "4 work" in text_of(pages.block(address, "run"))
    assert "4 work" in pages.get(f"{PAGE}?tab=bench")


def test_a_live_run_says_first_what_it_may_cost(pages: Pages) -> None:
    form = {"tab": "bench", "live": "true", "models": "sandbox/echo", "cases": "text", "formats": "openai_chat"}
    page = text_of(pages.post(PAGE, form, expect=200))
    assert "1 request would be sent, for $0.00 at most." in page
    assert pages.api("GET", "/api/jobs?kind=translator-bench")["total"] == 0
    _, page = run(pages, **{**form, "do": "confirmed"})
    assert "Target: sandbox/echo" in page
    assert "1 work" in page


def test_a_run_that_is_refused_keeps_what_was_chosen(pages: Pages) -> None:
    form = {"tab": "bench", "live": "true", "models": "no-such/model", "cases": "image"}
    page = text_of(pages.post(PAGE, form, expect=400))
    assert "f-models-fault" in page
    assert field_of(page, "models") == "no-such/model"
    assert re.search(r'value="image" checked', page)


def test_every_case_has_a_name() -> None:
    assert list(translator_bench.CASES) == list(CASES)


# --- live monitor ----------------------------------------------------------------------------------------------------


def test_watching_is_off_until_it_is_switched_on(pages: Pages) -> None:
    page = pages.get(f"{PAGE}?tab=monitor")
    assert "Watching is off" in page
    page = pages.after(pages.post(PAGE, {"tab": "monitor", "enabled": "true"}))
    assert "Translations are watched from now on." in page
    assert "Nothing yet" in page
    assert 'data-every="2"' in page
    page = pages.after(pages.post(PAGE, {"tab": "monitor", "enabled": "false"}))
    assert "what was seen is forgotten" in page


def test_translations_appear_and_open_in_the_playground(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pages.app.own
    own.connections.create({"provider": "groq", "apiKey": "sk-live-0123456789abcdefghij"}, SYSTEM)
    scripted = ScriptedTransport()
    scripted.handler = lambda _: json_reply(ANSWER)
    monkeypatch.setattr(own.inference, "_transport", scripted)
    pages.post(PAGE, {"tab": "monitor", "enabled": "true"})
    own.snapshots.refresh()
    asked = {"model": "groq/llama-3.3-70b-versatile", "max_tokens": 9, "top_k": 4, "messages": CHAT["messages"]}
    assert pages.app.admin.post("/v1/messages", json=asked).status_code == 200
    page = text_of(pages.block(f"{PAGE}?tab=monitor", "seen"))
    assert "groq/llama-3.3-70b-versatile" in page
    assert "Anthropic Messages → OpenAI Chat Completions" in page
    assert "None of these" in pages.get(f"{PAGE}?tab=monitor&source=gemini")
    assert "None of these" in pages.get(f"{PAGE}?tab=monitor&q=nothing-like-it")
    assert "groq/llama" in pages.get(f"{PAGE}?tab=monitor&losses=true&q=GROQ&target=openai_chat")
    found = re.search(r"open=(\d+)#opened", page)
    assert found is not None
    page = pages.get(f"{PAGE}?tab=monitor&open={found[1]}")
    assert "<code>top_k</code>" in page
    assert "Hello there" in page
    page = pages.get(f"{PAGE}?tab=playground&seen={found[1]}")
    assert "Hello there" in field_of(page, "body")
    assert 'id="result"' in page
    gone = pages.client.get(f"{PAGE}?tab=playground&seen=1")
    assert gone.status_code == 400
    assert "no longer kept" in gone.text
