"""The parts of the settings that have forms of their own."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from omniroute.blueprints.dashboard import api
from tests.blueprints.dashboard.conftest import ORIGIN, PASSWORD, Pages, field_of, text_of

PATH = "/dashboard/settings"


def said(pages: Pages, where: str, form: dict[str, Any]) -> str:
    """Send a form and return the page to which it leads."""
    return pages.after(pages.post(f"{PATH}/{where}", form))


def refused(pages: Pages, where: str, form: dict[str, Any]) -> str:
    """Send a form that is refused and return the page that says why."""
    return text_of(pages.post(f"{PATH}/{where}", form, expect=400))


def filled(pages: Pages, tab: str, form: str, name: str) -> dict[str, Any]:
    """Follow the link beside a row that has it edited, and return what the form holds then."""
    page = pages.get(f"{PATH}?tab={tab}")
    found = re.search(
        rf'<a class="btn btn-quiet" href="([^"#]*)#{form}"[^>]*>(?:(?!</a>).)*Edit {re.escape(name)}<', page
    )
    assert found is not None, name
    page = pages.get(found[1])
    inner = page[page.index(f'id="{form}"') :].partition("</form>")[0]
    names = re.findall(r'name="(\w+)"', inner)
    return {
        one: field_of(inner, one)
        for one in names
        if one not in ("csrf_token", "type", "isActive") and f'<select class="form-select" id="f-{one}"' not in inner
    }


def combo(pages: Pages, name: str = "coding") -> str:
    body = {"name": name, "models": ["sandbox/echo"]}
    return str(pages.api("POST", "/api/combos", body)["id"])


def test_the_database_is_looked_at_and_cared_for(pages: Pages) -> None:
    assert "The database is whole" in said(pages, "database", {"action": "check"})
    assert "The database is whole" in said(pages, "database", {"action": "thorough"})
    answer = pages.post(f"{PATH}/database", {"action": "vacuum"})
    assert "job=" in answer.headers["Location"]
    assert 'id="work"' in pages.after(answer)
    block = pages.block(answer.headers["Location"].partition("#")[0], "work")
    assert "<html" not in text_of(block)
    assert 'id="work"' not in pages.get(f"{PATH}?tab=general&job=job_none")


def test_a_purge_says_how_many_rows_first(pages: Pages) -> None:
    body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Hello"}]}
    assert pages.app.admin.post("/v1/chat/completions", json=body).status_code == 200
    pages.app.own.request_log.flush()
    form = {"what": "logs", "olderThanDays": "0"}
    answer = pages.post(f"{PATH}/purge", form, expect=200)
    assert "1 row would be removed." in text_of(answer)
    assert pages.api("GET", "/api/usage/logs")["logs"]
    assert "1 row was removed." in said(pages, "purge", {**form, "confirmed": "yes"})
    assert pages.api("GET", "/api/usage/logs")["logs"] == []
    page = refused(pages, "purge", {"what": "audit-older", "olderThanDays": "ever"})
    assert field_of(page, "olderThanDays") == "ever"
    assert 'id="f-olderThanDays-fault"' in page


def test_nobody_but_a_server_of_ours_is_restarted(pages: Pages) -> None:
    for action in ("restart", "shutdown"):
        assert "(code not_supported)" in said(pages, "server", {"action": action})


def test_the_login_is_switched_with_the_password(pages: Pages) -> None:
    page = refused(pages, "login", {"requireLogin": "false", "currentPassword": "wrong password"})
    assert 'id="f-currentPassword-fault"' in page
    assert "wrong password" not in page
    assert "need no login now" in said(pages, "login", {"requireLogin": "false", "currentPassword": PASSWORD})
    pages.log_out()
    page = said(pages, "server", {"action": "restart"})
    assert "This needs a login, although pages open without one." in page
    way = re.search(r'href="(/login\?[^"]*)">Log in<', page)
    assert way is not None
    assert 'name="password"' in pages.get(way[1])
    assert pages.client.get("/login").status_code == 302, "nobody is asked for a login that nothing needs"
    page = refused(pages, "login", {"requireLogin": "true", "currentPassword": PASSWORD})
    assert 'href="/login?' in page
    pages.log_in()
    assert "A login is needed now." in said(pages, "login", {"requireLogin": "true", "currentPassword": PASSWORD})


def test_addresses_are_kept_out_and_let_in(pages: Pages) -> None:
    page = refused(pages, "addresses", {"enabled": "true", "mode": "block", "list": "192.0.2.0/24 nonsense"})
    assert field_of(page, "list") == "192.0.2.0/24 nonsense"
    assert 'id="f-list-fault"' in page
    form = {"enabled": "true", "mode": "block", "list": "192.0.2.0/24\r\n2001:db8::/32"}
    assert "The filter is saved." in said(pages, "addresses", form)
    assert pages.api("GET", "/api/settings/ip-filter")["list"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert "kept out" in said(pages, "bans", {"address": "198.51.100.7", "minutes": "30", "reason": "noise"})
    assert "kept out" in said(pages, "bans", {"address": "198.51.100.8", "minutes": "30", "reason": ""})
    bans = pages.api("GET", "/api/settings/ip-filter")["tempBans"]
    assert [ban["address"] for ban in bans] == ["198.51.100.7/32", "198.51.100.8/32"]
    page = refused(pages, "bans", {"address": "nowhere", "minutes": "30"})
    assert field_of(page, "address") == "nowhere"
    assert 'id="f-address-fault"' in page
    assert "let in again" in said(pages, "bans", {"remove": "198.51.100.7/32"})
    assert len(pages.api("GET", "/api/settings/ip-filter")["tempBans"]) == 1


def test_a_filter_that_would_keep_the_visitor_out_asks_again(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def change(_path: str, body: Any) -> Any:
        asked.append(body)
        if "force" not in body:
            raise api.Refused(409, {"message": "This would lock you out.", "code": "would_lock_out"})

    monkeypatch.setattr(api, "put", change)
    monkeypatch.setattr(api, "patch", change)
    form = {"enabled": "true", "mode": "block", "list": "203.0.113.0/24"}
    page = refused(pages, "addresses", form)
    assert "This would lock you out." in page
    assert 'name="force"' in page
    assert "The filter is saved." in said(pages, "addresses", {**form, "force": "true"})
    ban = {"address": "203.0.113.9", "minutes": "5", "reason": ""}
    assert 'name="force"' in refused(pages, "bans", ban)
    assert "The address is kept out." in said(pages, "bans", {**ban, "force": "true"})
    assert [body.get("force", False) for body in asked] == [False, True, False, True]


def test_accounts_and_rules_for_single_providers(pages: Pages) -> None:
    form = {
        "accountStrategy": "round-robin",
        "stickyLimit": "5",
        "sessionAffinityTtlMs": "",
        "switchMargin": "0.2",
        "ambiguousModelPolicy": "refuse",
    }
    assert "The order of accounts is saved." in said(pages, "accounts", form)
    routing = pages.api("GET", "/api/settings")["settings"]["routing"]
    assert (routing["accountStrategy"], routing["stickyLimit"], routing["switchMargin"]) == ("round-robin", 5, 0.2)
    assert routing["cacheAffinity"] is False
    page = refused(pages, "accounts", {**form, "switchMargin": "much", "stickyLimit": "0"})
    assert field_of(page, "switchMargin") == "much"
    assert 'id="f-switchMargin-fault"' in page
    assert 'id="f-stickyLimit-fault"' in page
    rule = {"provider": "sandbox", "strategy": "random", "limit": "", "blocked": "true"}
    page = said(pages, "provider-rules", rule)
    assert "The rule is saved." in page
    assert "blocked" in page
    page = refused(pages, "provider-rules", {**rule, "provider": "nobody"})
    assert 'value="nobody"' in page
    assert 'id="f-provider-fault"' in page
    assert 'id="f-limit-fault"' in refused(pages, "provider-rules", {**rule, "limit": "0"})
    assert "follows the rule for all again" in said(
        pages, "provider-rules", {"action": "remove", "provider": "sandbox"}
    )
    assert pages.api("GET", "/api/settings")["settings"]["routing"]["providers"] == {}


def test_defaults_of_combos(pages: Pages) -> None:
    page = said(
        pages,
        "combo-defaults",
        {"strategy": "weighted", "config.maxRetries": "2", "config.failoverBeforeRetry": "true"},
    )
    assert "The defaults of combos are saved." in page
    assert field_of(page, "config.maxRetries") == "2"
    found = pages.api("GET", "/api/settings/combo-defaults")
    assert found["strategy"] == "weighted"
    assert found["config"] == {"maxRetries": 2, "failoverBeforeRetry": True}
    page = refused(pages, "combo-defaults", {"strategy": "weighted", "config.maxRetries": "lots"})
    assert field_of(page, "config.maxRetries") == "lots"
    assert 'id="f-config.maxRetries-fault"' in page


def test_aliases(pages: Pages) -> None:
    page = said(pages, "aliases", {"pattern": "gpt-*", "target": "sandbox/echo", "priority": "5"})
    assert "The alias is saved." in page
    assert "<code>gpt-*</code>" in page
    [alias] = pages.api("GET", "/api/models/alias")["aliases"]
    off = {"pattern": "gpt-*", "target": "sandbox/echo", "priority": "5", "enabled": "false"}
    said(pages, "aliases", off)
    assert pages.api("GET", "/api/models/alias")["aliases"][0]["enabled"] is False
    form = filled(pages, "routing", "alias-form", alias["pattern"])
    assert form == {**form, "target": "sandbox/echo", "enabled": "false", "of": alias["pattern"]}
    assert "The alias is saved." in said(pages, "aliases", form | {"pattern": "other-*", "priority": "7"})
    [alias] = pages.api("GET", "/api/models/alias")["aliases"]
    assert (alias["pattern"], alias["target"], alias["priority"]) == ("other-*", "sandbox/echo", 7)
    assert alias["enabled"] is False, "what was off stays off"
    page = refused(pages, "aliases", form | {"id": alias["id"], "of": "other-*", "pattern": "", "priority": ""})
    assert "Changes “other-*”" in page
    page = refused(pages, "aliases", {"pattern": "", "target": "sandbox/echo", "priority": "first"})
    assert 'name="priority" type="text" value="first"' in page
    assert 'id="alias-pattern-fault"' in page
    assert "No alias with this text." in pages.get(f"{PATH}?tab=routing&find=zzz")
    assert "It is removed." in said(pages, "aliases", {"action": "remove", "id": alias["id"]})
    assert "(code not_found)" in said(pages, "aliases", {"action": "remove", "id": alias["id"]})


def test_patterns_that_lead_to_combos(pages: Pages) -> None:
    combo(pages)
    page = said(pages, "mappings", {"pattern": "claude-*", "combo": "coding", "priority": ""})
    assert "The pattern is saved." in page
    [row] = pages.api("GET", "/api/model-combo-mappings")["mappings"]
    assert row["comboName"] == "coding"
    assert "It is off." in said(pages, "mappings", {"action": "switch", "id": row["id"], "enabled": "false"})
    form = filled(pages, "routing", "mapping-form", "claude-*")
    assert (form["id"], form["combo"]) == (row["id"], "coding")
    assert "The pattern is saved." in said(pages, "mappings", form | {"pattern": "opus-*", "priority": "3"})
    [row] = pages.api("GET", "/api/model-combo-mappings")["mappings"]
    assert (row["id"], row["pattern"], row["priority"], row["enabled"]) == (form["id"], "opus-*", 3, False)
    page = refused(pages, "mappings", form | {"combo": "nothing"})
    assert "Changes “claude-*”" in page
    page = refused(pages, "mappings", {"pattern": "x-*", "combo": "nothing", "priority": ""})
    assert field_of(page, "combo") == "nothing"
    assert 'id="f-combo-fault"' in page
    assert "It is removed." in said(pages, "mappings", {"action": "remove", "id": row["id"]})
    assert "(code not_found)" in said(pages, "mappings", {"action": "switch", "id": row["id"], "enabled": "true"})


def test_fallback_chains(pages: Pages) -> None:
    form = {"name": "last", "models": "sandbox/echo\r\nsandbox/story", "match": "gpt-*"}
    assert "The chain is saved." in said(pages, "chains", form)
    [chain] = pages.api("GET", "/api/fallback/chains")["chains"]
    assert (chain["models"], chain["match"]) == (["sandbox/echo", "sandbox/story"], ["gpt-*"])
    assert "It is off." in said(pages, "chains", {"action": "switch", "id": chain["id"], "enabled": "false"})
    assert "It is on." in said(pages, "chains", {"action": "switch", "id": chain["id"], "enabled": "true"})
    form = filled(pages, "routing", "chain-form", "last")
    assert form == {
        "id": chain["id"],
        "of": "last",
        "name": "last",
        "match": "gpt-*",
        "models": "sandbox/echo\nsandbox/story",
    }
    assert "The chain is saved." in said(
        pages, "chains", form | {"name": "end", "match": "", "models": "sandbox/story"}
    )
    [chain] = pages.api("GET", "/api/fallback/chains")["chains"]
    assert (chain["id"], chain["name"], chain["models"], chain["match"]) == (
        form["id"],
        "end",
        ["sandbox/story"],
        ["*"],
    )
    page = refused(pages, "chains", form | {"name": "", "of": "end"})
    assert "Changes “end”" in page
    page = refused(pages, "chains", {"name": "", "models": "sandbox/echo", "match": ""})
    assert 'id="chain-name-fault"' in page
    assert field_of(page, "models") == "sandbox/echo"
    assert "It is removed." in said(pages, "chains", {"action": "remove", "id": chain["id"]})


def test_which_rule_matches(pages: Pages) -> None:
    combo(pages)
    pages.api("PUT", "/api/models/alias", {"pattern": "gpt-*", "target": "coding"})
    page = pages.get(f"{PATH}?tab=routing&model=gpt-5")
    assert "Alias or pattern" in page
    assert "the combo coding" in page
    assert "sandbox/echo" in page
    assert "notice-warning" in pages.get(f"{PATH}?tab=routing&model=no-such-model")


def test_proxies(pages: Pages) -> None:
    form = {
        "name": "office",
        "type": "socks5",
        "host": "127.0.0.1",
        "port": "9",
        "username": "me",
        "password": "hush-hush",
    }
    page = said(pages, "proxies", form)
    assert "The proxy is saved." in page
    assert "socks5://me@127.0.0.1:9" in page
    assert "hush-hush" not in page
    [proxy] = pages.api("GET", "/api/settings/proxies")["proxies"]
    page = refused(pages, "proxies", {**form, "name": "second", "port": "many"})
    assert field_of(page, "port") == "many"
    assert 'id="f-port-fault"' in page
    assert "hush-hush" not in page
    form = filled(pages, "advanced", "proxy-form", "office")
    assert form == {**form, "id": proxy["id"], "host": "127.0.0.1", "port": "9", "username": "me", "password": ""}
    form |= {"type": "socks5", "name": "home", "isActive": "false"}
    assert "The proxy is saved." in said(pages, "proxies", form)
    [changed] = pages.api("GET", "/api/settings/proxies")["proxies"]
    assert (changed["id"], changed["name"], changed["isActive"]) == (proxy["id"], "home", False)
    assert changed["password"], "a field that is left empty changes nothing"
    page = refused(pages, "proxies", form | {"port": "many"})
    assert "Change the proxy" in page
    assert "The proxy is saved." in said(pages, "proxies", form | {"username": "", "isActive": "true"})
    [changed] = pages.api("GET", "/api/settings/proxies")["proxies"]
    assert (changed["username"], changed["password"]) == (None, None), "nobody logs in there any more"
    place = {"level": "provider", "where": "sandbox", "proxy": proxy["id"]}
    page = said(pages, "proxy-places", place)
    assert "The proxy is in use there." in page
    assert "One provider" in page
    assert 'id="f-where-fault"' in refused(pages, "proxy-places", {**place, "where": "nobody"})
    page = refused(pages, "proxy-places", {**place, "level": "global", "where": "openai"})
    assert 'id="f-where-fault"' in page
    assert 'name="where" type="text" value="openai"' in page
    assert pages.api("GET", "/api/settings/proxy")["global"] is None, "one provider was meant, not all"
    assert "(code not_found)" in said(pages, "proxy-test", {"id": "proxy_none"})
    assert "any more" in said(pages, "proxy-places", {**place, "action": "remove"})
    assert "The proxy is removed." in said(pages, "proxies", {"action": "remove", "id": proxy["id"]})
    assert "(code not_found)" in said(pages, "proxies", {"action": "remove", "id": proxy["id"]})


def test_a_proxy_is_tried(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    trial: dict[str, Any] = {"success": True, "publicIp": None, "latencyMs": 12.4, "proxyUrl": "http://h:1"}
    monkeypatch.setattr(api, "post", lambda *_given, **_query: trial)
    assert "The proxy works: 12 ms, others see –." in said(pages, "proxy-test", {"id": "proxy_1"})
    trial |= {"success": False, "error": {"code": "proxy_unreachable", "message": "Nobody answers."}}
    assert "The proxy does not work: Nobody answers." in said(pages, "proxy-test", {"id": "proxy_1"})


def test_which_proxy_a_connection_uses(pages: Pages) -> None:
    body = {"provider": "openai", "name": "work", "apiKey": "sk-test-1"}
    made = pages.api("POST", "/api/providers", body)["connection"]["id"]
    assert "None: the provider is asked directly." in pages.get(f"{PATH}?tab=advanced&resolve={made}")
    pages.api(
        "PUT",
        "/api/settings/proxy",
        {"level": "global", "proxy": {"type": "http", "host": "93.184.216.34", "port": 8080}},
    )
    assert "http://93.184.216.34:8080" in pages.get(f"{PATH}?tab=advanced&resolve={made}")
    assert "There is no" in pages.get(f"{PATH}?tab=advanced&resolve=conn_none")


def test_a_document_is_checked_before_it_is_applied(pages: Pages) -> None:
    document = json.dumps({"version": 1, "settings": {"general": {"instanceName": "studio"}}})
    answer = pages.post(f"{PATH}/import", {"document": document, "action": "check"}, expect=200)
    assert "1 thing would change" in text_of(answer)
    assert pages.api("GET", "/api/settings")["settings"]["general"]["instanceName"] != "studio"
    assert "1 change was made." in said(pages, "import", {"document": document, "action": "apply"})
    assert pages.api("GET", "/api/settings")["settings"]["general"]["instanceName"] == "studio"
    assert "is not JSON" in refused(pages, "import", {"document": "{", "action": "check"})
    page = refused(pages, "import", {"document": '{"version": 1, "colour": "red"}', "action": "apply"})
    assert "colour" in page
    boundary, body = encode_multipart({"file": FileStorage(io.BytesIO(document.encode()), "s.json"), "action": "check"})
    kind = f"multipart/form-data; boundary={boundary}"
    brought = pages.client.post(f"{PATH}/import", data=body, headers=ORIGIN, content_type=kind)
    assert "0 things would change" in text_of(brought)
