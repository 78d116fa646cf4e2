"""API keys from their making to their end."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import pytest

from omniroute.errors import InvalidRequest, NotFound, ValidationFailed
from omniroute.records import AccessSchedule, Budget, RateRule, TokenLimit
from omniroute.services.keys import SYSTEM, initial_scopes, masked, state_of
from omniroute.storage.ledger import Ledger
from tests.harness import NOW, Gateway


def test_the_form_of_a_key(gateway: Gateway) -> None:
    issued = gateway.issue()
    assert re.fullmatch(r"sk-[0-9a-z]{12}-[0-9A-Za-z_-]{43}-[0-9a-f]{8}", issued.secret)
    assert issued.key.key_hash == sha256(issued.secret.encode()).digest()
    assert issued.key.key_id == issued.secret[3:15]
    assert masked(issued.key) == f"{issued.secret[:8]}…{issued.secret[-4:]}"
    assert gateway.issue().secret != issued.secret


def test_the_tag_tells_our_keys_from_others(gateway: Gateway) -> None:
    secret = gateway.issue().secret
    assert gateway.keys.has_valid_tag(secret)
    other = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    assert not gateway.keys.has_valid_tag(other)
    assert not gateway.keys.has_valid_tag("")


def test_a_key_outlives_the_tag_secret(gateway: Gateway) -> None:
    secret = gateway.issue().secret
    gateway.keys._tag_key = b"another" * 8
    assert not gateway.keys.has_valid_tag(secret)
    assert gateway.client().get("/v1/models", headers={"x-api-key": secret}).status_code == 200


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ((), {"chat", "self:usage"}),
        (("chat",), {"chat", "self:usage"}),
        (("mcp:connect",), {"mcp:connect", "self:usage"}),
    ],
)
def test_new_keys_may_infer_unless_told_otherwise_and_see_their_usage(given: tuple[str, ...], stored: set[str]) -> None:
    assert initial_scopes(frozenset(given)) == stored


def test_every_field_survives_the_database(gateway: Gateway) -> None:
    fields: dict[str, Any] = {
        "scopes": ("chat", "skills:*", "skills:web-search", "reserve:use"),
        "allowedModels": ("sandbox/*", "gpt-?"),
        "blockedModels": ("x",),
        "allowedConnections": ("conn_1",),
        "allowedEndpoints": ("/v1/messages", "models"),
        "ipAllowlist": ("192.0.2.7", "2001:db8::/32"),
        "expiresAt": NOW + 5,
        "isActive": False,
        "isBanned": True,
        "accessSchedule": {"enabled": True, "from": "09:00", "until": "17:00", "days": (4, 0), "tz": "Europe/Berlin"},
        "noLog": True,
        "hidePaidModels": True,
        "isCanary": True,
    }
    issued = gateway.issue("all of it", **fields)
    key = gateway.keys.get(issued.key.id)
    assert key == issued.key
    assert key.ip_allowlist == ("192.0.2.7/32", "2001:db8::/32")
    assert key.allowed_endpoints == ("messages", "models")
    assert key.schedule == AccessSchedule(True, "09:00", "17:00", (0, 4), "Europe/Berlin")
    assert key.scopes == {"chat", "skills:*", "skills:web-search", "reserve:use", "self:usage"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scopes", ("cook",), "not a scope"),
        ("scopes", ("skills:",), "not a scope"),
        ("scopes", ("skills:a b",), "not a scope"),
        ("scopes", ("Chat",), "not a scope"),
        ("scopes", tuple(f"skills:s{n}" for n in range(33)), "at most 32"),
        ("ipAllowlist", ("somewhere",), "not an address"),
        ("ipAllowlist", ("192.0.2.0/33",), "not an address"),
        ("expiresAt", NOW, "future"),
        (
            "accessSchedule",
            {"enabled": True, "from": "09:00", "until": "17:00", "days": (), "tz": "Mars/Olympus"},
            "time zone",
        ),
        (
            "accessSchedule",
            {"enabled": True, "from": "09:00", "until": "17:00", "days": (), "tz": "../etc"},
            "time zone",
        ),
    ],
)
def test_fields_without_meaning_are_refused_and_nothing_is_stored(
    gateway: Gateway, field: str, value: Any, message: str
) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        gateway.issue(**{field: value})
    assert refusal.value.details[0]["field"] == field
    assert message in refusal.value.details[0]["message"]
    assert gateway.keys.usable() == []


def test_a_change_touches_the_given_fields_only(gateway: Gateway) -> None:
    issued = gateway.issue("old", allowedModels=("a",), noLog=True)
    gateway.clock.pass_(10)
    changed = gateway.keys.change(issued.key.id, {"name": "new", "noLog": False}, SYSTEM)
    assert (changed.name, changed.allowed_models, changed.no_log) == ("new", ("a",), False)
    assert changed.updated_at == NOW + 10
    assert gateway.audited("key.updated")[0].details == {"fields": ["name", "no_log"]}


@pytest.mark.parametrize(
    ("field", "value", "idle"),
    [
        ("disabledGuardrails", ("pii",), ()),
        ("streamDefault", "json", "request"),
    ],
)
def test_a_limit_that_nothing_enforces_is_refused(gateway: Gateway, field: str, value: Any, idle: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"does not enforce {field}") as refused:
        gateway.issue(**{field: value})
    assert (refused.value.error_code, refused.value.param) == ("not_supported", field)
    key = gateway.issue(**{field: idle}).key
    with pytest.raises(InvalidRequest):
        gateway.keys.change(key.id, {field: value}, SYSTEM)
    assert gateway.keys.change(key.id, {field: idle, "name": "n"}, SYSTEM).name == "n"


def test_limits_are_kept_and_lifted(gateway: Gateway) -> None:
    rules = ({"limit": 5, "windowSeconds": 60}, {"limit": 100, "windowSeconds": 86_400})
    key = gateway.issue(rateLimits=rules, maxConcurrent=3, maxSessions=4, throttleDelayMs=5).key
    stored = gateway.keys.get(key.id)
    assert stored.rate_limits == (RateRule(5, 60), RateRule(100, 86_400))
    assert (stored.max_concurrent, stored.max_sessions, stored.throttle_delay_ms) == (3, 4, 5)
    lifted = gateway.keys.change(
        key.id, {"rateLimits": (), "maxConcurrent": None, "maxSessions": None, "throttleDelayMs": 0}, SYSTEM
    )
    assert gateway.keys.get(key.id) == lifted
    assert (lifted.rate_limits, lifted.max_concurrent, lifted.max_sessions) == ((), None, None)
    assert not lifted.throttle_delay_ms


def test_two_rules_for_one_window_contradict_each_other(gateway: Gateway) -> None:
    rules = ({"limit": 5, "windowSeconds": 60}, {"limit": 9, "windowSeconds": 60})
    with pytest.raises(ValidationFailed) as refused:
        gateway.issue(rateLimits=rules)
    assert refused.value.details == [{"field": "rateLimits", "message": "has two rules for the same number of seconds"}]
    assert gateway.keys.usable() == []


def test_a_revoked_key_leaves_no_budget_behind(gateway: Gateway) -> None:
    key, other, ledger = gateway.issue().key, gateway.issue("other").key, Ledger(gateway.database)
    ledger.set_budgets([Budget(one.id, "daily", 1) for one in (key, other)], NOW)
    ledger.set_token_limit(TokenLimit("tl_1", key.id, "global", None, 5, "daily"), NOW)
    gateway.keys.revoke(key.id, SYSTEM)
    assert (list(ledger.budgets()), list(ledger.token_limits())) == ([other.id], [])
    assert list(gateway.snapshots.current.budgets) == [other.id]


def test_lists_hold_the_newest_first_and_no_revoked_ones(gateway: Gateway) -> None:
    first = gateway.issue("first")
    gateway.clock.pass_(1)
    second = gateway.issue("second")
    assert [key.name for key in gateway.keys.usable()] == ["second", "first"]
    gateway.keys.revoke(second.key.id, SYSTEM)
    assert [key.name for key in gateway.keys.usable()] == ["first"]
    for action in (
        lambda: gateway.keys.get(second.key.id),
        lambda: gateway.keys.revoke(second.key.id, SYSTEM),
        lambda: gateway.keys.change(second.key.id, {"name": "x"}, SYSTEM),
        lambda: gateway.keys.regenerate(second.key.id, SYSTEM),
        lambda: gateway.keys.get("key_unknown"),
    ):
        with pytest.raises(NotFound):
            action()
    assert gateway.keys.get(first.key.id).name == "first"


def test_regenerating_keeps_the_fields(gateway: Gateway) -> None:
    issued = gateway.issue(allowedModels=("sandbox/*",), scopes=("chat", "a2a"))
    new = gateway.keys.regenerate(issued.key.id, SYSTEM, grace_s=30)
    assert new.secret != issued.secret
    assert (new.key.id, new.key.allowed_models, new.key.scopes) == (
        issued.key.id,
        issued.key.allowed_models,
        issued.key.scopes,
    )
    assert new.key.previous_hash == issued.key.key_hash
    assert new.key.previous_until == NOW + 30


def test_states(gateway: Gateway) -> None:
    key = gateway.issue(expiresAt=NOW + 10).key
    assert state_of(key, NOW) == "active"
    assert state_of(key, NOW + 10) == "expired"
    assert state_of(gateway.issue(isActive=False).key, NOW) == "disabled"
    assert state_of(gateway.issue(isBanned=True).key, NOW) == "banned"


def test_the_audit_log_names_every_step_without_the_key(gateway: Gateway) -> None:
    issued = gateway.issue("audited")
    gateway.keys.change(issued.key.id, {"isActive": False}, SYSTEM)
    new = gateway.keys.regenerate(issued.key.id, SYSTEM)
    gateway.keys.revoke(issued.key.id, SYSTEM)
    rows = [row for row in gateway.audited() if row.action.startswith("key.")]
    assert [row.action for row in rows] == ["key.created", "key.updated", "key.regenerated", "key.deleted"]
    assert {row.target_id for row in rows} == {issued.key.id}
    for row in rows:
        assert issued.secret not in repr(row)
        assert new.secret not in repr(row)
