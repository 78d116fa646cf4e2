"""The list of providers, the catalogue, and the ways to connect."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from omniroute.errors import UpstreamTimeout
from tests.blueprints.dashboard.conftest import ORIGIN, Pages, field_of, text_of
from tests.blueprints.dashboard.provider_world import KEY, connect, connections, node, picky, scripted
from tests.services.providers import ScriptedTransport


@pytest.fixture
def transport(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
    return scripted(pages, monkeypatch)


def test_an_empty_list_says_what_to_do(pages: Pages) -> None:
    page = pages.get("/dashboard/providers")
    assert "Nothing is connected yet but the sandbox." in page
    assert "Always on" in page
    assert "Not connected" in page
    assert "/dashboard/providers/anthropic/connect" in page


def test_what_is_connected_stands_first_with_its_state(pages: Pages, transport: ScriptedTransport) -> None:
    connect(pages, name="good")
    bad = connect(pages, name="bad", apiKey="sk-bad-123456789")
    connect(pages, "openai", isActive=False)
    pages.api("POST", f"/api/providers/{bad}/test")
    node(pages)
    page = pages.get("/dashboard/providers")
    assert page.index("Custom endpoints") < page.index("API key", page.index("Custom endpoints"))
    for text in ("Partly failing", "1 of 2 usable", "Switched off", "Own server", "own/…"):
        assert text in page, text
    failing = pages.get("/dashboard/providers?filter=failing")
    assert "/dashboard/providers/groq" in failing
    assert "Own server" not in failing
    assert "Not connected" not in failing
    free = pages.get("/dashboard/providers?filter=free")
    assert "Own server" in free
    assert '"/dashboard/providers/groq"' not in free
    found = pages.get("/dashboard/providers?q=OPENAI&filter=connected")
    assert '"/dashboard/providers/openai"' in found
    assert "Own server" not in found
    none = pages.get("/dashboard/providers?q=zzz&filter=failing")
    assert "No connected provider fits." in none
    assert "“zzz”" in none
    assert KEY not in page


def test_the_tiles_refresh_alone(pages: Pages) -> None:
    answer = pages.block("/dashboard/providers", "tiles")
    text = text_of(answer)
    assert "Sandbox" in text
    assert "<html" not in text
    again = pages.client.get(
        "/dashboard/providers",
        headers={"HX-Request": "true", "HX-Target": "tiles", "If-None-Match": answer.headers["ETag"]},
    )
    assert again.status_code == 304


def test_the_catalogue_is_searched_and_paged(pages: Pages) -> None:
    first = pages.get("/dashboard/providers/add")
    assert "1–48 of" in first
    assert first.count("card-tile") == 48
    assert "1–48" not in pages.get("/dashboard/providers/add?offset=48")
    found = pages.get("/dashboard/providers/add?q=groq")
    assert "/dashboard/providers/groq/connect" in found
    assert found.count("card-tile") == 1
    local = pages.get("/dashboard/providers/add?group=local")
    assert "/dashboard/providers/ollama/connect" in local
    assert "/dashboard/providers/groq/connect" not in local
    assert "No provider has this name." in pages.get("/dashboard/providers/add?q=zzzz")
    assert pages.get("/dashboard/providers/add?offset=99999")
    assert "<html" not in text_of(pages.block("/dashboard/providers/add?q=groq", "found"))


def test_what_cannot_be_connected_is_greyed_with_the_reason(pages: Pages) -> None:
    page = pages.get("/dashboard/providers/add?q=claude")
    assert "It is used with a login, not with a key." in page
    assert "does not allow other software" in page
    assert "/dashboard/providers/claude/connect" not in page
    ended = pages.get("/dashboard/providers/qwen/connect")
    assert "The free login ended" in ended
    assert "/dashboard/providers/alibaba/connect" in ended
    assert 'name="apiKey"' not in ended
    assert pages.client.get("/dashboard/providers/nobody").status_code == 404
    assert pages.client.get("/dashboard/providers/nobody/connect").status_code == 404


# --- one key ---------------------------------------------------------------------------------------------------------


def test_a_key_is_tested_and_stored(pages: Pages, transport: ScriptedTransport) -> None:
    form = {"apiKey": KEY, "name": "Main", "group": "team", "priority": "7", "defaultModel": "m", "testFirst": "true"}
    answer = pages.post("/dashboard/providers/groq/connect", form)
    assert "Main is connected and works." in pages.after(answer)
    (made,) = connections(pages)
    assert (made["name"], made["group"], made["priority"], made["status"]) == ("Main", "team", 7, "ok")
    assert len(transport.sent) == 2


def test_without_a_test_nothing_is_asked(pages: Pages, transport: ScriptedTransport) -> None:
    answer = pages.post("/dashboard/providers/groq/connect", {"apiKey": KEY})
    assert "Groq is connected." in pages.after(answer)
    assert transport.sent == []
    assert connections(pages)[0]["status"] == "untested"


def test_a_wrong_key_keeps_all_but_the_key(pages: Pages, transport: ScriptedTransport) -> None:
    form = {"apiKey": "sk-bad-0123456789", "name": "Main", "group": "team", "testFirst": "true"}
    page = text_of(pages.post("/dashboard/providers/groq/connect", form, expect=400))
    assert "the provider refused it: Incorrect API key provided" in page
    assert 'id="f-apiKey-fault"' in page
    assert (field_of(page, "name"), field_of(page, "group")) == ("Main", "team")
    assert "sk-bad-0123456789" not in page
    assert connections(pages) == []


def test_a_provider_that_hangs_is_said_in_time(pages: Pages, transport: ScriptedTransport) -> None:
    transport.handler = lambda _request: UpstreamTimeout("headers")
    form = {"apiKey": KEY, "name": "Main", "testFirst": "true"}
    answer = pages.post("/dashboard/providers/groq/connect", form, expect=400)
    page = text_of(answer)
    assert "The test failed: The provider did not answer in time." in page
    assert field_of(page, "name") == "Main"


def test_wrong_values_are_marked(pages: Pages) -> None:
    page = text_of(pages.post("/dashboard/providers/groq/connect", {"apiKey": KEY, "priority": "first"}, expect=400))
    assert field_of(page, "priority") == "first"
    assert 'id="f-priority-fault"' in page
    page = text_of(pages.post("/dashboard/providers/azure-openai/connect", {"apiKey": KEY}, expect=400))
    assert 'id="f-data.resource-fault"' in page
    form = {"data.baseUrl": "ftp://127.0.0.1"}
    page = text_of(pages.post("/dashboard/providers/ollama/connect", form, expect=400))
    assert field_of(page, "data.baseUrl") == "ftp://127.0.0.1"


def test_a_form_without_proof_of_origin_is_refused(pages: Pages) -> None:
    assert pages.client.post("/dashboard/providers/groq/connect", data={"apiKey": KEY}).status_code == 403
    assert connections(pages) == []


# --- many ------------------------------------------------------------------------------------------------------------


def test_many_keys_each_with_its_result(pages: Pages) -> None:
    answer = pages.post("/dashboard/providers/groq/keys", {"keys": f"Team A, {KEY}\n{KEY}\n"}, expect=201)
    page = text_of(answer)
    assert "Stored: 1. Known already: 1. Refused: 0." in page
    assert "Team A" in page
    assert KEY not in page
    assert [row["name"] for row in connections(pages)] == ["Team A"]


def test_refused_keys_are_not_shown_again(pages: Pages) -> None:
    long = "sk-" + "x" * 9000
    page = text_of(pages.post("/dashboard/providers/groq/keys", {"keys": long}, expect=400))
    assert 'id="f-keys-fault"' in page
    assert "xxxx" not in page
    empty = text_of(pages.post("/dashboard/providers/groq/keys", {"keys": " "}, expect=400))
    assert 'id="f-keys-fault"' in empty


def test_keys_that_are_tested_first_become_a_job(pages: Pages, transport: ScriptedTransport) -> None:
    form = {"keys": f"{KEY}\nsk-bad-0123456789", "validateKeys": "true"}
    page = pages.after(pages.post("/dashboard/providers/groq/keys", form))
    assert "Import of keys" in page
    assert "Stored: 1. Known already: 0. Refused: 1." in page
    assert "Incorrect API key provided" in page
    assert "sk-bad-0123456789" not in page


def test_a_list_in_csv(pages: Pages) -> None:
    text = f"provider,name,apiKey\ngroq,One,{KEY}\nnobody,Two,{KEY}\n"
    page = text_of(pages.post("/dashboard/providers/import", {"csv": text}, expect=201))
    assert "Stored: 1. Known already: 0. Refused: 1." in page
    assert KEY not in page
    form = {"file": (BytesIO(text.replace("One", "Again").encode()), "keys.csv")}
    page = text_of(pages.post("/dashboard/providers/import", form, expect=201))
    assert "Known already: 1" in page
    wrong = text_of(pages.post("/dashboard/providers/import", {"csv": "provider,colour\ngroq,red"}, expect=400))
    assert "unknown column" in wrong
    assert "red" not in field_of(wrong, "csv")


# --- custom endpoints ------------------------------------------------------------------------------------------------

NODE = {"type": "openai-compatible", "name": "Own", "prefix": "own", "baseUrl": "http://127.0.0.1:9/v1"}


def test_an_endpoint_is_stored_with_its_connection(pages: Pages) -> None:
    assert 'value="ollama" selected' in pages.get("/dashboard/providers/custom?type=ollama")
    form = {**NODE, "isLocal": "true", "apiKey": KEY, "customHeaders": "X-Team: a-secret-value", "modelsPath": "/list"}
    page = pages.after(pages.post("/dashboard/providers/custom", form))
    assert "The endpoint Own is stored and connected." in page
    (made,) = pages.api("GET", "/api/provider-nodes")["nodes"]
    assert (made["prefix"], made["isLocal"], made["modelsPath"]) == ("own", True, "/list")
    assert list(made["customHeaders"]) == ["X-Team"]
    (row,) = connections(pages, made["id"])
    assert row["apiKey"] == "sk-live-…ghij"
    assert "a-secret-value" not in pages.get(f"/dashboard/providers/{made['id']}?tab=advanced")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prefix": "Own Name"}, "prefix"),
        ({"prefix": "openai"}, "prefix"),
        ({"baseUrl": "http://127.0.0.1:9/v1/chat/completions"}, "baseUrl"),
        ({"customHeaders": "Authorization: x"}, "customHeaders"),
        ({"name": ""}, "name"),
    ],
)
def test_a_wrong_endpoint_keeps_what_was_typed(pages: Pages, changes: dict[str, str], field: str) -> None:
    form = {**NODE, "isLocal": "true", "apiKey": KEY, **changes}
    page = text_of(pages.post("/dashboard/providers/custom", form, expect=400))
    assert f'id="f-{field}-fault"' in page
    assert field_of(page, field).strip() == form[field]
    assert KEY not in page
    assert pages.api("GET", "/api/provider-nodes")["total"] == 0


def test_an_address_is_tried_before_it_is_stored(pages: Pages, transport: ScriptedTransport) -> None:
    form = {**NODE, "isLocal": "true", "do": "probe"}
    page = text_of(pages.post("/dashboard/providers/custom", form, expect=200))
    assert "The address answers." in page
    assert "model-a" in page
    assert field_of(page, "baseUrl") == NODE["baseUrl"]
    hx = {**ORIGIN, "HX-Request": "true", "HX-Target": "trial"}
    block = text_of(pages.client.post("/dashboard/providers/custom", data=form, headers=hx))
    assert "2 models" in block
    assert "<form" not in block
    private = text_of(pages.post("/dashboard/providers/custom", {**form, "isLocal": ""}, expect=200))
    assert "The address cannot be used:" in private
    transport.handler = lambda _request: UpstreamTimeout("headers")
    silent = text_of(pages.post("/dashboard/providers/custom", form, expect=200))
    assert "The provider did not answer in time." in silent
    transport.handler = picky
    keyed = text_of(pages.post("/dashboard/providers/custom", {**form, "apiKey": "bad"}, expect=200))
    assert "Something answers there, but not with a list of models: Incorrect API key provided" in keyed


# --- tests of all ----------------------------------------------------------------------------------------------------


def test_all_connections_are_tested(pages: Pages, transport: ScriptedTransport) -> None:
    connect(pages, name="good")
    connect(pages, name="old", apiKey="sk-bad-123456789")
    page = pages.after(pages.post("/dashboard/providers/test", {"provider": "groq"}))
    assert "1 of 2 connections work." in page
    assert "The provider refuses the key" in page
    assert "/dashboard/providers/groq" in page
    job = pages.api("GET", "/api/jobs?kind=provider-test")["jobs"][0]["id"]
    assert "1 of 2" in text_of(pages.block(f"/dashboard/providers/jobs/{job}", "job"))


def test_results_call_own_endpoints_by_their_names(pages: Pages, transport: ScriptedTransport) -> None:
    identity = node(pages, "own", name="Rack in the cellar")
    connect(pages, identity, name="first")
    page = pages.after(pages.post("/dashboard/providers/test", {"provider": identity}))
    results = page[page.index('id="results-title"') :]
    assert "Rack in the cellar" in results
    assert identity not in results


def test_nothing_to_test_is_said(pages: Pages) -> None:
    page = pages.after(pages.post("/dashboard/providers/test", {"provider": "groq"}))
    assert "has no active connection" in page


def test_a_job_that_nobody_knows(pages: Pages) -> None:
    answer: Any = pages.client.get("/dashboard/providers/jobs/job_nobody")
    assert answer.status_code == 404
