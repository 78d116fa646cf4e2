"""Pages ask the API as the visitor who stands before them, and as nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import request

from omniroute.blueprints import guard
from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.services.access import Actor, ActorKind, Power
from tests.blueprints.dashboard.conftest import Pages


@pytest.fixture
def visitor(pages: Pages) -> Iterator[Pages]:
    """A page that is being shown to an admin."""
    with pages.app.app.test_request_context("/dashboard", environ_base={"REMOTE_ADDR": "127.0.0.1"}):
        request.environ[guard.REQUEST_ID] = "req_outer"
        request.environ[guard.ACTOR] = Actor(ActorKind.SESSION, Power.ADMIN, "ses_1", "admin")
        yield pages


def _become(kind: ActorKind, power: Power) -> None:
    request.environ[guard.ACTOR] = Actor(kind, power, "x", "x")


def test_a_document_comes_back(visitor: Pages) -> None:
    made = api.post("/api/keys", {"name": "laptop"})
    assert made["name"] == "laptop"
    assert [key["name"] for key in api.get("/api/keys", q="lap", limit=5)["keys"]] == ["laptop"]
    assert api.patch(f"/api/keys/{api.segment(made['id'])}", {"name": "desk"})["key"]["name"] == "desk"
    assert api.delete(f"/api/keys/{made['id']}")
    reply = api.call("GET", "/api/keys", query={"limit": 1})
    assert (reply.status, reply.headers["X-Total-Count"]) == (200, str(reply.document["total"]))


def test_what_was_done_stands_in_the_audit_under_the_request_of_the_page(visitor: Pages) -> None:
    api.post("/api/keys", {"name": "laptop"})
    entry = api.get("/api/audit", action="key.created", limit=1)["entries"][0]
    assert entry["requestId"] == "req_outer"
    assert entry["actor"] == "session:ses_1"


def test_a_refusal_names_the_fields(visitor: Pages) -> None:
    with pytest.raises(Refused) as caught:
        api.post("/api/keys", {"name": "", "expiresAt": "soon"})
    assert (caught.value.http_status, caught.value.error_code) == (400, "validation_failed")
    assert set(caught.value.faults) == {"name", "expiresAt"}
    with pytest.raises(Refused) as missing:
        api.get("/api/keys/none-such")
    assert (missing.value.http_status, missing.value.faults) == (404, {})


def test_what_conflicts_is_told(visitor: Pages) -> None:
    api.post("/api/combos", {"name": "main", "models": ["sandbox/echo"]})
    api.post("/api/combos", {"name": "outer", "models": [{"kind": "combo-ref", "comboName": "main"}]})
    (inner,) = [one for one in api.get("/api/combos")["combos"] if one["name"] == "main"]
    with pytest.raises(Refused) as caught:
        api.delete(f"/api/combos/{inner['id']}")
    assert caught.value.error_code == "in_use"
    assert caught.value.details["usedBy"]


def test_no_one_gains_power_by_a_page(visitor: Pages) -> None:
    _become(ActorKind.SESSION, Power.READ)
    assert api.get("/api/keys")["total"] == 1
    with pytest.raises(Refused) as caught:
        api.post("/api/keys", {"name": "laptop"})
    assert caught.value.error_code == "scope_insufficient"


def test_what_needs_a_credential_is_not_open_to_a_visitor_without_one(visitor: Pages) -> None:
    _become(ActorKind.ANONYMOUS, Power.ADMIN)
    assert api.get("/api/keys")["total"] >= 0
    with pytest.raises(Refused) as caught:
        api.get("/api/settings/database")
    assert caught.value.http_status == 401


def test_nobody_becomes_a_pages_visitor_by_headers(pages: Pages) -> None:
    stranger = pages.app.client(address="203.0.113.9")
    headers = {"X-OmniRoute-Page-Actor": "admin", "omniroute.page_actor": "admin", "Omniroute-Page-Actor": "admin"}
    assert stranger.get("/api/keys", headers=headers).status_code == 401


@pytest.mark.parametrize("hostile", ["../keys", "a/b", "%2e%2e", "a?b=c", "a#b", "ü"])
def test_an_id_from_elsewhere_stays_one_segment(visitor: Pages, hostile: str) -> None:
    with pytest.raises(Refused) as caught:
        api.get(f"/api/combos/{api.segment(hostile)}")
    assert caught.value.http_status == 404
