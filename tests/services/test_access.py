"""The key policy beyond what the security tests replay: model lists, schedules, order of the checks, the hot path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import PermissionDenied
from omniroute.records import AccessSchedule
from omniroute.services.access import ModelRules, glob_matches, is_key_shaped, seconds_until_open
from omniroute.services.carriers import carried_credential
from tests.harness import NOW, Gateway


@pytest.mark.parametrize(
    ("allowed", "blocked", "requested", "resolved", "admitted"),
    [
        ((), (), "anything", None, True),
        (("sandbox/*",), (), "sandbox/echo", "sandbox/echo", True),
        (("sandbox/*",), (), "groq/echo", "groq/echo", False),
        (("sandbox/echo",), (), "sandbox/echo", None, True),
        (("sandbox/echo",), (), "sandbox/echo2", None, False),
        (("echo",), (), "sandbox/echo", "sandbox/echo", True),  # the id alone, at any provider
        (("gpt-?",), (), "openai/gpt-4", "openai/gpt-4", True),
        (("gpt-?",), (), "openai/gpt-4o", "openai/gpt-4o", False),
        (("sandbox/*",), (), "sb/echo", "sandbox/echo", True),  # another spelling of an allowed target
        (("my-alias",), (), "my-alias", "groq/llama", True),  # the operator named the alias itself
        (("my-*",), (), "my-alias", "groq/llama", False),  # a wildcard admits no alias to something else
        (("sandbox/*",), (), "sandbox/echo", "groq/llama", False),
        ((), ("groq/*",), "groq/llama", "groq/llama", False),
        ((), ("groq/*",), "my-alias", "groq/llama", False),
        ((), ("my-alias",), "my-alias", "groq/llama", False),
        ((), ("groq/*",), "sandbox/echo", "sandbox/echo", True),
        (("*",), ("groq/*",), "groq/llama", "groq/llama", False),  # deny before allow
        (("groq/llama",), ("llama",), "groq/llama", "groq/llama", False),
        (("*",), (), "a/b/c", "a/b/c", True),
        (("openrouter/deepseek/*",), (), "openrouter/deepseek/chat:free", None, True),
    ],
)
def test_model_lists(
    allowed: tuple[str, ...], blocked: tuple[str, ...], requested: str, resolved: str | None, admitted: bool
) -> None:
    assert ModelRules(allowed, blocked).admit(requested, resolved) is admitted


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("?", "", False),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("*a*b", "xaybzb", True),
        ("*a*b", "xayb-", False),
        ("**", "x", True),
        ("[abc]", "a", False),  # brackets are letters here
        ("[abc]", "[abc]", True),
        ("a.c", "abc", False),
    ],
)
def test_globs(pattern: str, text: str, matches: bool) -> None:
    assert glob_matches(pattern, text) is matches


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_globs_agree_with_a_plain_definition(pattern: str, text: str) -> None:
    def plain(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return plain(p[1:], t) or (bool(t) and plain(p, t[1:]))
        return bool(t) and (p[0] == "?" or p[0] == t[0]) and plain(p[1:], t[1:])

    assert glob_matches(pattern, text) is plain(pattern, text)


def test_a_hostile_glob_takes_no_time() -> None:
    assert not glob_matches("*a" * 120 + "b", "a" * 256)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def schedule(start: str, end: str, days: tuple[int, ...] = (), tz: str = "UTC") -> AccessSchedule:
    return AccessSchedule(True, start, end, days, tz)


@pytest.mark.parametrize(
    ("plan", "now", "wait_s"),
    [
        (schedule("09:00", "17:00"), at("2027-01-15T09:00"), 0),
        (schedule("09:00", "17:00"), at("2027-01-15T16:59:59"), 0),
        (schedule("09:00", "17:00"), at("2027-01-15T17:00"), 16 * 3600),
        (schedule("09:00", "17:00"), at("2027-01-15T08:30"), 1800),
        (schedule("22:00", "06:00"), at("2027-01-15T05:59"), 0),
        (schedule("22:00", "06:00"), at("2027-01-15T23:00"), 0),
        (schedule("22:00", "06:00"), at("2027-01-15T06:00"), 16 * 3600),
        (schedule("00:00", "00:00"), at("2027-01-15T12:00"), 0),
        (schedule("09:00", "17:00", (0, 1, 2, 3, 4)), at("2027-01-15T12:00"), 0),  # a Friday
        (schedule("09:00", "17:00", (0, 1, 2, 3, 4)), at("2027-01-16T12:00"), 45 * 3600),  # Saturday to Monday
        (schedule("22:00", "06:00", (4,)), at("2027-01-16T03:00"), 0),  # Friday's night reaches into Saturday
        (schedule("22:00", "06:00", (5,)), at("2027-01-16T03:00"), 19 * 3600),
        (schedule("09:00", "17:00", tz="America/New_York"), at("2027-01-15T13:59"), 60),
        (schedule("09:00", "17:00", tz="Asia/Kolkata"), at("2027-01-15T03:30"), 0),
    ],
)
def test_schedules(plan: AccessSchedule, now: float, wait_s: float) -> None:
    assert seconds_until_open(plan, now) == wait_s


def test_a_schedule_follows_the_clocks_of_its_zone() -> None:
    plan = schedule("02:30", "04:00", tz="Europe/Berlin")
    before = datetime(2027, 3, 28, 0, 0, tzinfo=UTC).timestamp()  # the night in which 02:00 becomes 03:00
    assert 0 < seconds_until_open(plan, before) <= 2 * 3600
    assert seconds_until_open(plan, before + seconds_until_open(plan, before)) == 0


def test_outside_the_schedule_the_answer_says_when_to_come_back(gateway: Gateway) -> None:
    plan = {"enabled": True, "from": "09:00", "until": "17:00", "days": (), "tz": "UTC"}
    key = gateway.issue(accessSchedule=plan).secret
    answer = gateway.client().get("/v1/models", headers={"x-api-key": key})  # it is 08:00
    assert answer.status_code == 403
    assert answer.headers["Retry-After"] == "3600"
    gateway.clock.pass_(3600)
    assert gateway.client().get("/v1/models", headers={"x-api-key": key}).status_code == 200
    off = gateway.issue(accessSchedule={**plan, "enabled": False, "from": "00:00", "until": "00:01"}).secret
    assert gateway.client().get("/v1/models", headers={"x-api-key": off}).status_code == 200


def test_the_first_failing_check_answers(gateway: Gateway) -> None:
    faults: dict[str, Any] = {
        "isActive": False,
        "ipAllowlist": ("203.0.113.0/24",),
        "accessSchedule": {"enabled": True, "from": "20:00", "until": "21:00", "days": (), "tz": "UTC"},
        "scopes": ("a2a",),
        "allowedModels": ("nothing",),
    }
    order = [
        ("isActive", "key_disabled"),
        ("ipAllowlist", "ip_not_allowed"),
        ("accessSchedule", "outside_schedule"),
        ("scopes", "endpoint_not_allowed"),
        ("allowedModels", "model_not_allowed"),
    ]
    for field, code in order:
        key = gateway.issue(**faults, expiresAt=NOW + 10).secret
        answer = gateway.client().get("/v1/models/x", headers={"x-api-key": key})
        assert answer.headers["X-OmniRoute-Error-Code"] == code
        del faults[field]
    key = gateway.issue(isActive=False, expiresAt=NOW + 10).secret
    gateway.clock.pass_(10)
    answer = gateway.client().get("/v1/models", headers={"x-api-key": key})
    assert answer.headers["X-OmniRoute-Error-Code"] == "key_expired"


@pytest.mark.parametrize(
    ("entries", "address", "admitted"),
    [
        (("192.0.2.7",), "192.0.2.7", True),
        (("192.0.2.7",), "192.0.2.8", False),
        (("192.0.2.0/24",), "192.0.2.200", True),
        (("2001:db8::/32",), "2001:db8::5", True),
        (("2001:db8::/32",), "192.0.2.7", False),
        (("192.0.2.0/24",), "::ffff:192.0.2.7", True),
        (("127.0.0.1",), "", False),
    ],
)
def test_address_lists(gateway: Gateway, entries: tuple[str, ...], address: str, admitted: bool) -> None:
    key = gateway.issue(ipAllowlist=entries).secret
    answer = gateway.client(address=address).get("/v1/models", headers={"x-api-key": key})
    assert (answer.status_code == 200) is admitted


def test_endpoint_lists(gateway: Gateway) -> None:
    key = {"x-api-key": gateway.issue(allowedEndpoints=("/v1/messages", "models")).secret}
    client = gateway.client()
    for mount in ("/v1", "/v1/v1", "/api/v1", ""):
        assert client.post(f"{mount}/messages", json={}, headers=key).status_code == 200
        assert client.get(f"{mount}/models", headers=key).status_code == 200
        assert client.post(f"{mount}/chat/completions", json={}, headers=key).status_code == 403


def test_a_refused_model_is_named_in_the_dialect_of_the_path(gateway: Gateway) -> None:
    key = gateway.issue(allowedModels=("groq/*",)).secret
    answer = gateway.client().get("/v1/models/sandbox/echo", headers={"x-api-key": key})
    error = answer.get_json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("model_not_allowed", "model", "permission_error")


def test_the_caller_of_a_plain_key_is_made_once(gateway: Gateway) -> None:
    issued = gateway.issue()
    environ = {"HTTP_AUTHORIZATION": f"Bearer {issued.secret}", "REMOTE_ADDR": "192.0.2.7"}
    first = gateway.access.authenticate_inference(environ, "models")
    assert gateway.access.authenticate_inference(environ, "models") is first
    gateway.issue("another")  # a new snapshot
    assert gateway.access.authenticate_inference(environ, "models") == first


def test_authentication_reads_nothing_from_the_database(gateway: Gateway) -> None:
    from sqlalchemy import event

    issued = gateway.issue()
    statements: list[str] = []

    def remember(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(gateway.database.engine, "before_cursor_execute", remember)
    for _ in range(3):
        assert gateway.client().get("/v1/models", headers={"x-api-key": issued.secret}).status_code == 200
        assert gateway.client().get("/v1/models").status_code == 200
    assert statements == []


@pytest.mark.parametrize(
    ("environ", "credential"),
    [
        ({}, None),
        ({"HTTP_AUTHORIZATION": "Bearer abc"}, "abc"),
        ({"HTTP_AUTHORIZATION": "BEARER  abc "}, "abc"),
        ({"HTTP_AUTHORIZATION": "Bearer "}, None),
        ({"HTTP_AUTHORIZATION": "Bearer"}, None),
        ({"HTTP_AUTHORIZATION": "Basic abc"}, None),
        ({"HTTP_AUTHORIZATION": "Basic abc", "HTTP_API_KEY": "k"}, "k"),
        ({"HTTP_X_API_KEY": ""}, None),
        ({"HTTP_X_API_KEY": "a", "HTTP_X_GOOG_API_KEY": "a"}, "a"),
        ({"HTTP_AUTHORIZATION": "Bearer a", "HTTP_X_API_KEY": " a "}, "a"),
    ],
)
def test_carriers(environ: dict[str, str], credential: str | None) -> None:
    assert carried_credential(environ) == credential


@pytest.mark.parametrize(
    ("text", "shaped"),
    [
        ("sk-abcdefghijkl-" + "x" * 43 + "-01234567", True),
        ("sk-abcdefghijkl-" + "x" * 42 + "-01234567", True),
        ("sk-abcdefghijk-" + "x" * 43 + "-01234567", True),
        ("sk-no-key-required", False),
        ("sk-1234567890", False),
        ("not-needed", False),
        ("sk-proj-abc", False),
    ],
)
def test_shapes(text: str, shaped: bool) -> None:
    assert is_key_shaped(text) is shaped


def test_names_in_refusals_are_bounded(gateway: Gateway) -> None:
    caller = gateway.access.authenticate_inference(
        {"HTTP_X_API_KEY": gateway.issue(allowedModels=("a",)).secret}, "models"
    )
    with pytest.raises(PermissionDenied) as refusal:
        caller.check_model("x" * 5000)
    assert len(refusal.value.message) < 300


def test_listed_page_origins_may_call_without_a_key(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(cors_allowed_origins=("http://localhost:3000",))
    client = gateway.client()
    good = client.get("/v1/models", headers={"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"})
    assert good.status_code == 200
    assert good.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert client.get("/v1/models", headers={"Origin": "http://localhost:3001"}).status_code == 403


def test_the_environment_can_keep_a_key_out_of_the_log(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway()
    named, other = gateway.issue(), gateway.issue()
    settled = make_gateway(password=None, no_log_api_key_ids=(named.key.id,))

    def is_private(secret: str) -> bool:
        environ = {"HTTP_AUTHORIZATION": f"Bearer {secret}", "REMOTE_ADDR": "127.0.0.1"}
        key = settled.access.authenticate_inference(environ, "models").key
        assert key is not None
        return key.no_log

    assert is_private(named.secret)
    assert not is_private(other.secret)
