"""The page of one provider: connections, models, what is special about it."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.errors import UpstreamTimeout
from tests.blueprints.dashboard.conftest import ORIGIN, Pages, field_of, text_of
from tests.blueprints.dashboard.provider_world import KEY, connect, connections, node, scripted
from tests.services.providers import ScriptedTransport

KNOWN = "llama-3.3-70b-versatile"
MODELS = "/dashboard/providers/groq?tab=models"


@pytest.fixture
def transport(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
    return scripted(pages, monkeypatch)


def names(pages: Pages) -> list[str]:
    return [row["name"] for row in connections(pages)]


# --- connections -----------------------------------------------------------------------------------------------------


def test_the_page_is_found_by_every_name(pages: Pages) -> None:
    connect(pages, "deepseek", name="Main")
    for name in ("deepseek", "ds", "DS"):
        page = pages.get(f"/dashboard/providers/{name}")
        assert "DeepSeek" in page
        assert "sk-live-…ghij" in page
        assert KEY not in page
    own = node(pages)
    assert "Own server" in pages.get("/dashboard/providers/own")
    assert "No connection yet." in pages.get(f"/dashboard/providers/{own}")
    assert "The sandbox needs no connection." in pages.get("/dashboard/providers/sandbox")


def test_rows_move_by_buttons_and_as_a_whole(pages: Pages) -> None:
    ids = [connect(pages, name=name) for name in "abc"]
    path = "/dashboard/providers/groq"
    assert "The order is saved." in pages.after(pages.post(path, {"do": f"up:{ids[2]}"}))
    assert names(pages) == list("acb")
    pages.post(path, {"do": f"down:{ids[0]}"})
    assert names(pages) == list("cab")
    form = {"order": [ids[1], ids[0], ids[2]]}
    answer = pages.client.post(path, data=form, headers={**ORIGIN, "HX-Request": "true"})
    assert answer.status_code == 204
    assert names(pages) == list("bac")


def test_one_is_switched_and_many_are(pages: Pages) -> None:
    ids = [connect(pages, name=name) for name in "abc"]
    path = "/dashboard/providers/groq"
    page = pages.after(pages.post(path, {"do": "disable", "ids": ids[:2]}))
    assert "2 connections are switched off." in page
    assert [row["isActive"] for row in connections(pages)] == [False, False, True]
    assert "1 connection is switched on." in pages.after(pages.post(path, {"do": f"enable:{ids[0]}"}))
    hx = {**ORIGIN, "HX-Request": "true", "HX-Target": "rows"}
    rows = text_of(pages.client.post(path, data={"do": f"disable:{ids[2]}"}, headers=hx))
    assert rows.count("Switched off") >= 2
    assert "<html" not in rows
    assert "Choose at least one connection." in pages.after(pages.post(path, {"do": "disable"}))


def test_a_test_says_what_it_found(pages: Pages, transport: ScriptedTransport) -> None:
    good, bad = connect(pages, name="good"), connect(pages, name="old", apiKey="sk-bad-123456789")
    path = "/dashboard/providers/groq"
    assert "It works. Model" in pages.after(pages.post(path, {"do": f"test:{good}"}))
    assert "The provider refuses the key" in pages.after(pages.post(path, {"do": f"test:{bad}"}))
    hx = {**ORIGIN, "HX-Request": "true", "HX-Target": "rows"}
    rows = text_of(pages.client.post(path, data={"do": f"test:{bad}"}, headers=hx))
    assert "It does not work: The provider refuses the key" in rows
    assert "Incorrect API key provided" in rows
    assert "Failing" in rows or "Refused" in rows
    transport.handler = lambda _request: UpstreamTimeout("headers")
    silent = text_of(pages.client.post(path, data={"do": f"test:{good}"}, headers=hx))
    assert "The provider did not answer in time." in silent
    page = pages.after(pages.post(path, {"do": "test", "ids": [good, bad]}))
    assert "0 of 2 connections work." in page


def test_errors_are_forgotten(pages: Pages, transport: ScriptedTransport) -> None:
    bad = connect(pages, name="old", apiKey="sk-bad-123456789")
    pages.api("POST", f"/api/providers/{bad}/test")
    assert "Incorrect API key provided" in pages.get("/dashboard/providers/groq")
    page = pages.after(pages.post("/dashboard/providers/groq", {"do": f"reset:{bad}"}))
    assert "Errors and rests are forgotten." in page
    assert "Incorrect API key provided" not in page
    pages.api("POST", f"/api/providers/{bad}/test")
    page = pages.after(pages.post(f"/dashboard/providers/groq/connections/{bad}/reset"))
    assert "Errors and rests are forgotten." in page


def test_the_way_to_choose_is_that_of_this_provider(pages: Pages) -> None:
    connect(pages, name="a")
    connect(pages, name="b")
    path = "/dashboard/providers/groq/strategy"
    page = pages.after(pages.post(path, {"accountStrategy": "round-robin", "stickyLimit": "5"}))
    assert "The choice of accounts is saved." in page
    assert 'value="round-robin" selected' in page
    assert field_of(page, "stickyLimit") == "5"
    refused = text_of(pages.post(path, {"accountStrategy": "random", "stickyLimit": "0"}, expect=400))
    assert field_of(refused, "stickyLimit") == "0"
    assert 'id="f-stickyLimit-fault"' in refused
    pages.post(path, {"accountStrategy": "", "stickyLimit": ""})
    chosen = pages.api("GET", "/api/settings")["settings"]["routing"]["providers"]
    assert not any((chosen.get("groq") or {}).get(name) for name in ("accountStrategy", "stickyLimit"))


# --- one connection --------------------------------------------------------------------------------------------------


def test_limits_of_a_connection(pages: Pages) -> None:
    one = connect(pages, name="Main", quotaCutoffs={"5h": 90})
    path = f"/dashboard/providers/groq/connections/{one}"
    page = pages.get(path)
    assert field_of(page, "cutoff.5h") == "90"
    form = {
        "name": "Other",
        "group": "team",
        "priority": "3",
        "requestsPerMinute": "60",
        "minTimeBetweenRequestsMs": "",
        "concurrentRequests": "2",
        "cutoff.5h": "75.5",
        "apiKey": "",
        "isActive": "true",
    }
    assert "Other is saved." in pages.after(pages.post(path, form))
    (row,) = connections(pages)
    assert (row["name"], row["group"], row["priority"]) == ("Other", "team", 3)
    assert (row["requestsPerMinute"], row["minTimeBetweenRequestsMs"], row["concurrentRequests"]) == (60, None, 2)
    assert (row["quotaCutoffs"], row["proxyEnabled"], row["isActive"]) == ({"5h": 75.5}, False, True)
    assert row["apiKey"] == "sk-live-…ghij"
    pages.post(path, {**form, "apiKey": "sk-other-0123456789abcdefghij", "cutoff.5h": ""})
    (row,) = connections(pages)
    assert row["apiKey"].startswith("sk-other")
    assert row["quotaCutoffs"] == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("requestsPerMinute", "many"), ("priority", "0"), ("concurrentRequests", "-1"), ("cutoff.5h", "120")],
)
def test_wrong_limits_are_marked(pages: Pages, field: str, value: str) -> None:
    one = connect(pages, name="Main", quotaCutoffs={"5h": 90})
    form = {"name": "Other", "isActive": "true", "apiKey": "sk-new-secret-0123456789", field: value}
    page = text_of(pages.post(f"/dashboard/providers/groq/connections/{one}", form, expect=400))
    assert field_of(page, field) == value
    assert f'id="f-{field}-fault"' in page
    assert field_of(page, "name") == "Other"
    assert "sk-new-secret-0123456789" not in page
    assert connections(pages)[0]["name"] == "Main"


def test_a_removal_names_the_combos(pages: Pages) -> None:
    one, two = connect(pages, name="Main"), connect(pages, name="Spare")
    steps: list[Any] = [{"model": f"groq/{KNOWN}", "connectionId": one}, "sandbox/echo"]
    pages.api("POST", "/api/combos", {"name": "daily", "models": steps})
    path = "/dashboard/providers/groq"
    asked = pages.after(pages.post(path, {"do": "delete", "ids": [one, two]}))
    assert "2 connections and their keys go for good." in asked
    assert "1 combo names one of them" in asked
    assert "daily" in asked
    assert "Keep" in asked
    assert len(connections(pages)) == 2
    spare = pages.get(f"{path}/remove?ids={two}")
    assert "No combo names one of them." in spare
    page = pages.after(pages.post(f"{path}/remove", {"ids": [one, two]}))
    assert "2 connections are removed. These combos have lost a target: daily" in page
    assert connections(pages) == []
    assert "No connection was chosen." in pages.get(f"{path}/remove")
    assert pages.client.get(f"{path}/remove?ids={one}").status_code == 404


# --- models ----------------------------------------------------------------------------------------------------------


def test_models_are_filtered_and_paged(pages: Pages) -> None:
    page = pages.get(MODELS)
    assert KNOWN in page
    assert "Not connected" in page
    one = pages.get(f"{MODELS}&q={KNOWN}")
    assert one.count('name="models"') == 1
    assert "No model fits the filters." in pages.get(f"{MODELS}&show=hidden")
    assert "No model fits the filters." in pages.get(f"{MODELS}&type=video")
    big = pages.get("/dashboard/providers/openai?tab=models&sort=-contextLength")
    assert big.count('name="models"') == 50
    assert "1–50 of" in big


def test_models_are_hidden_and_shown(pages: Pages) -> None:
    connect(pages)
    page = pages.after(pages.post(MODELS, {"do": f"hide:{KNOWN}"}))
    assert "1 model is hidden." in page
    assert KNOWN in pages.get(f"{MODELS}&show=hidden")
    hx = {**ORIGIN, "HX-Request": "true", "HX-Target": "models"}
    block = text_of(pages.client.post(f"{MODELS}&q={KNOWN}", data={"do": f"show:{KNOWN}"}, headers=hx))
    assert "Hidden" not in block
    assert "<html" not in block
    assert f"/dashboard/providers/groq?tab=models&q={KNOWN}" in block
    assert "2 models are hidden." in pages.after(
        pages.post(MODELS, {"do": "hide", "models": [KNOWN, "openai/gpt-oss-20b"]})
    )
    assert "Choose at least one model." in pages.after(pages.post(MODELS, {"do": "hide"}))


def test_models_are_tested(pages: Pages, transport: ScriptedTransport) -> None:
    connect(pages)
    assert f"groq/{KNOWN} answers." in pages.after(pages.post(MODELS, {"do": f"test:{KNOWN}"}))
    hx = {**ORIGIN, "HX-Request": "true", "HX-Target": "models"}
    assert "It answers." in text_of(pages.client.post(MODELS, data={"do": f"test:{KNOWN}"}, headers=hx))
    transport.handler = lambda _request: UpstreamTimeout("headers")
    page = pages.after(pages.post(MODELS, {"do": f"test:{KNOWN}"}))
    assert "does not answer: The provider did not answer in time." in page
    many = pages.after(pages.post(MODELS, {"do": "test", "models": [KNOWN, "openai/gpt-oss-20b"]}))
    assert "0 of 2 models answer." in many
    pages.post("/dashboard/providers/groq", {"do": f"disable:{connections(pages)[0]['id']}"})
    assert "code" in pages.after(pages.post(MODELS, {"do": f"test:{KNOWN}"}))


def test_the_providers_list_is_read_now(pages: Pages, transport: ScriptedTransport) -> None:
    assert "No connection is switched on that could be asked." in pages.after(pages.post(MODELS, {"do": "read"}))
    connect(pages)
    page = pages.after(pages.post(MODELS, {"do": "read"}))
    assert "The list has 2 models: 2 new, 0 gone." in page
    assert "model-a" in page
    transport.handler = lambda _request: UpstreamTimeout("headers")
    assert "code" in pages.after(pages.post(MODELS, {"do": "read"}))


def test_a_model_has_other_names_and_stated_facts(pages: Pages) -> None:
    path = f"/dashboard/providers/groq/models/{KNOWN}"
    assert "groq/" + KNOWN in pages.get(path)
    page = pages.after(pages.post(path, {"do": "alias", "alias": "fast"}))
    assert "The alias is saved." in page
    assert "<code>fast</code>" in page
    assert "fast" in pages.get(f"{MODELS}&q={KNOWN}")
    assert "The alias is removed." in pages.after(pages.post(path, {"do": "unalias", "alias": "fast"}))
    refused = text_of(pages.post(path, {"do": "alias", "alias": "x" * 600}, expect=400))
    assert 'id="f-alias-fault"' in refused
    form = {"contextLength": "9000", "maxOutputTokens": "", "tools": "yes", "vision": "no"}
    page = pages.after(pages.post(path, form))
    assert field_of(page, "contextLength") == "9000"
    (stated,) = pages.api("GET", "/api/model-capability-overrides")["overrides"]
    assert stated["capabilities"] == {"tools": True, "vision": False}
    wrong = text_of(pages.post(path, {**form, "contextLength": "long"}, expect=400))
    assert field_of(wrong, "contextLength") == "long"
    assert 'id="f-contextLength-fault"' in wrong
    assert "is forgotten" in pages.after(pages.post(path, {"do": "forget"}))
    assert "No list has this model." in pages.get("/dashboard/providers/groq/models/un/known")


def test_a_model_is_declared_changed_and_removed(pages: Pages) -> None:
    tab, path = "/dashboard/providers/groq?tab=custom", "/dashboard/providers/groq/custom-models"
    assert "No model was added by hand." in pages.get(tab)
    assert field_of(pages.get(f"{tab}&id=mine"), "modelId") == "mine"
    form = {"modelId": "mine", "modelName": "Mine", "type": "chat", "apiFormat": "responses", "contextLength": "5000"}
    page = pages.after(pages.post(path, {**form, "supportsTools": "yes"}))
    assert "mine is saved." in page
    edit = pages.get(f"{tab}&edit=mine")
    assert "Change mine" in edit
    assert 'value="responses" selected' in edit
    assert field_of(edit, "contextLength") == "5000"
    pages.post(path, {**form, "edited": "mine", "modelName": "", "contextLength": "7000"})
    (made,) = pages.api("GET", "/api/provider-models?provider=groq")["models"]
    assert (made["modelName"], made["contextLength"], made["supportsTools"]) == (None, 7000, None)
    taken = text_of(pages.post(path, form, expect=400))
    assert field_of(taken, "modelName") == "Mine"
    wrong = text_of(pages.post(path, {**form, "modelId": "other", "contextLength": "x"}, expect=400))
    assert 'id="f-contextLength-fault"' in wrong
    assert "The model is removed." in pages.after(pages.post(path, {"do": "remove", "modelId": "mine"}))
    assert "code" in pages.after(pages.post(path, {"do": "remove", "modelId": "mine"}))


# --- advanced --------------------------------------------------------------------------------------------------------

ADVANCED = "/dashboard/providers/groq?tab=advanced"


def test_parameters_are_left_out_and_set(pages: Pages) -> None:
    path = "/dashboard/providers/groq/parameters"
    page = pages.after(pages.post(path, {"strip": "logit_bias\nseed", "force": '{"temperature": 0.2}'}))
    assert "The parameters are saved." in page
    filters = pages.api("GET", "/api/providers/groq/param-filters")
    assert (filters["strip"], filters["force"]) == (["logit_bias", "seed"], {"temperature": 0.2})
    assert "logit_bias" in pages.get(ADVANCED)
    broken = text_of(pages.post(path, {"strip": "seed", "force": "{"}, expect=400))
    assert 'id="f-force-fault"' in broken
    assert field_of(broken, "force") == "{"
    protected = text_of(pages.post(path, {"strip": "messages", "force": ""}, expect=400))
    assert 'id="f-strip-fault"' in protected
    pages.post(path, {"strip": "", "force": ""})
    assert pages.api("GET", "/api/providers/groq/param-filters")["strip"] == []


def test_a_proxy_of_the_provider(pages: Pages) -> None:
    path = "/dashboard/providers/groq/proxy"
    assert "This provider is asked directly." in pages.get(ADVANCED)
    own = {
        "proxy": "own",
        "type": "http",
        "host": "9.9.9.7",
        "port": "3128",
        "username": "u",
        "password": "secret-pw",
    }
    page = pages.after(pages.post(path, own))
    assert "The proxy is saved." in page
    assert "asked through 9.9.9.7:3128" in page
    assert "secret-pw" not in page
    wrong = text_of(pages.post(path, {**own, "port": "high"}, expect=400))
    assert 'id="f-port-fault"' in wrong
    assert "secret-pw" not in wrong
    named = {"name": "Office", "type": "http", "host": "9.9.9.8", "port": 8080}
    made = pages.api("POST", "/api/settings/proxies", named)["proxy"]
    assert "asked through Office" in pages.after(pages.post(path, {"proxy": made["id"]}))
    assert "This provider is asked directly." in pages.after(pages.post(path, {"proxy": ""}))


def test_a_provider_is_blocked(pages: Pages) -> None:
    path = "/dashboard/providers/groq/block"
    assert "Groq is blocked: no request goes there." in pages.after(pages.post(path, {"blocked": "true"}))
    assert pages.api("GET", "/api/settings")["settings"]["routing"]["providers"]["groq"]["blocked"] is True
    assert "Groq is used again." in pages.after(pages.post(path, {"blocked": "false"}))


def test_an_endpoint_is_changed_tried_and_removed(pages: Pages, transport: ScriptedTransport) -> None:
    own = node(pages, customHeaders={"X-Team": "a-secret-value"})
    connect(pages, own)
    tab, path = f"/dashboard/providers/{own}?tab=advanced", f"/dashboard/providers/{own}/endpoint"
    page = pages.get(tab)
    form = {name: field_of(page, name) for name in ("name", "prefix", "baseUrl", "customHeaders")}
    form |= {"type": "openai-compatible", "isLocal": "true"}
    assert "a-secret-value" not in page
    tried = text_of(pages.post(path, {**form, "do": "probe"}, expect=200))
    assert "The address answers." in tried
    assert "The endpoint is saved." in pages.after(pages.post(path, {**form, "name": "Renamed"}))
    (made,) = pages.api("GET", "/api/provider-nodes")["nodes"]
    assert made["name"] == "Renamed"
    assert made["customHeaders"]["X-Team"]
    wrong = text_of(pages.post(path, {**form, "prefix": "openai"}, expect=400))
    assert 'id="f-prefix-fault"' in wrong
    kept = text_of(pages.post(f"/dashboard/providers/{own}/delete", {"confirmation": "no"}, expect=400))
    assert 'id="f-confirmation-fault"' in kept
    assert "Remove this endpoint" in kept
    gone = pages.after(pages.post(f"/dashboard/providers/{own}/delete", {"confirmation": "own"}))
    assert "The endpoint is removed with 1 connection." in gone
    assert pages.client.post("/dashboard/providers/groq/delete", data={}, headers=ORIGIN).status_code == 404


def test_the_raw_entry_is_shown(pages: Pages) -> None:
    page = pages.get(ADVANCED)
    assert '"authKinds"' in page
    assert "Remove this endpoint" not in page
