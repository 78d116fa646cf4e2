"""Names that come from outside are text on every page; no page holds code or style of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from omniroute.blueprints.page_tiers import PAGES
from omniroute.blueprints.route import Tier
from omniroute.records import RequestRecord
from tests.blueprints.dashboard.conftest import Pages, pages

__all__ = ["pages"]

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
TABS = {
    "/dashboard/providers/<provider>": ("connections", "models", "custom", "advanced"),
    "/dashboard/costs": ("overview", "budget", "pricing"),
    "/dashboard/logs": ("requests", "active", "application"),
    "/dashboard/logs/requests/<log_id>": ("summary", "attempts", "decision", "bodies"),
    "/dashboard/translator": ("playground", "tester", "bench", "monitor"),
    "/dashboard/settings": ("general", "appearance", "ai", "security", "routing", "resilience", "advanced"),
}


def _addresses(pages: Pages) -> Iterator[str]:
    """Give the address of each page there is, with its tabs, and with hostile text in what can be searched for."""
    values = {
        "provider": "sandbox",
        "log_id": "req_hostile",
        "tag": "keys",
        "key_id": pages.api("GET", "/api/keys")["keys"][0]["id"],
        "combo_id": pages.api("GET", "/api/combos")["combos"][0]["id"],
        "connection_id": pages.api("GET", "/api/providers")["connections"][0]["id"],
    }
    for route in PAGES:
        if route.tier is not Tier.D or "GET" not in route.methods:
            continue
        names = re.findall(r"<(?:\w+:)?(\w+)>", route.rule)
        if not set(names) <= values.keys():
            continue
        address = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], route.rule)
        for tab in TABS.get(route.rule, ("",)):
            yield f"{address}?tab={tab}"
        yield f"{address}?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"


class _Tags(HTMLParser):
    """Notes the names of all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names += [name for name, _value in attrs]


def _attributes(body: str) -> list[str]:
    read = _Tags()
    read.feed(body)
    return read.names


def _fill(pages: Pages) -> None:
    pages.api("POST", "/api/keys", {"name": HOSTILE})
    node = {
        "name": HOSTILE,
        "prefix": "evil",
        "type": "openai-compatible",
        "baseUrl": "http://127.0.0.1:9/v1",
        "isLocal": True,
    }
    made = pages.api("POST", "/api/provider-nodes", node)["node"]
    pages.api("POST", "/api/providers", {"provider": made["id"], "name": HOSTILE, "apiKey": "sk-up-0123456789"})
    pages.api("POST", "/api/provider-models", {"provider": made["id"], "modelId": "m", "modelName": HOSTILE})
    pages.api("POST", "/api/combos", {"name": "evil", "description": HOSTILE, "models": ["evil/m"]})
    pages.api("PATCH", "/api/settings", {"general": {"instanceName": HOSTILE}})
    pages.api("POST", "/api/cli/tokens", {"name": HOSTILE})
    record = RequestRecord(
        request_id="req_hostile",
        time=time.time() - 5,
        endpoint="/v1/chat/completions",
        client_format="openai_chat",
        requested_model=HOSTILE,
        provider=made["id"],
        model=HOSTILE,
        error_code=HOSTILE,
        status=404,
    )
    pages.app.own.request_log.put(record)
    pages.app.own.request_log.flush()


@pytest.fixture
def hostile(pages: Pages) -> Pages:
    """A gateway in which everything that can be named is named by an attacker."""
    _fill(pages)
    return pages


def test_no_page_takes_a_name_for_code(hostile: Pages) -> None:
    walked = 0
    for address in _addresses(hostile):
        answer = hostile.client.get(address)
        body = answer.get_data(as_text=True)
        if answer.status_code not in (200, 302, 303, 404):
            raise AssertionError((address, answer.status_code, body[:800]))
        assert "<script>alert" not in body, address
        assert "<img src=x" not in body, address
        walked += answer.status_code == 200
    assert walked > 40


def test_no_page_holds_code_or_style_of_its_own(hostile: Pages) -> None:
    for address in [*_addresses(hostile), "/nothing-here"]:
        body = hostile.client.get(address, headers={"Accept": "text/html"}).get_data(as_text=True)
        assert "<style" not in body, address
        assert [name for name in _attributes(body) if name == "style" or name.startswith("on")] == [], address
        for part in body.split("<script")[1:]:
            tag = part.partition(">")[0]
            assert " src=" in tag or 'type="application/json"' in tag, (address, tag)


def test_every_page_has_a_language_a_title_and_labels_that_lead_to_fields(hostile: Pages) -> None:
    for address in _addresses(hostile):
        answer = hostile.client.get(address)
        page = answer.get_data(as_text=True)
        if answer.status_code != 200 or "<html" not in page:  # what is searched for while typing has no frame
            continue
        assert '<html lang="en"' in page, address
        assert "<title>" in page, address
        assert page.count("<h1") == 1, address
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), (address, sorted(one for one in set(ids) if ids.count(one) > 1))
        for target in re.findall(r'<label[^>]*\sfor="([^"]+)"', page):
            assert target in ids, (address, target)
        for form in re.findall(r'<form[^>]*method="post".*?</form>', page, re.DOTALL):
            assert 'name="csrf_token"' in form, (address, form[:200])


def test_no_page_shows_a_stored_secret(hostile: Pages) -> None:
    for address in _addresses(hostile):
        body = hostile.client.get(address).get_data(as_text=True)
        assert "sk-up-0123456789" not in body, address
        assert hostile.app.admin_key not in body, address
