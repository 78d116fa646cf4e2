"""Connections: what may be stored, what is shown, what tests find."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
    UrlBlocked,
    ValidationFailed,
)
from omniroute.formats.wire import WireFormat
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import AuthType, Connection
from omniroute.secret import Secret
from omniroute.services.connections import masked_key
from omniroute.services.keys import SYSTEM
from omniroute.storage.repositories import connections as rows
from omniroute.storage.secrets import Cipher
from tests import harness
from tests.services.providers import ANSWER, EVENTS, Providers, Reply, json_reply, providers_of

KEY = "sk-live-0123456789abcdefghij"


@pytest.fixture
def providers(gateway: harness.Gateway) -> Providers:
    return providers_of(gateway)


def add(providers: Providers, provider: str = "groq", **fields: Any) -> Connection:
    return providers.connections.create({"provider": provider, "apiKey": KEY, **fields}, SYSTEM)


def details(caught: pytest.ExceptionInfo[ValidationFailed]) -> list[str]:
    return [detail["field"] for detail in caught.value.details]


def test_a_new_connection_serves_at_once(providers: Providers) -> None:
    made = add(providers, name="Main")
    assert made.provider == "groq"
    assert (made.auth_type, made.test_status, made.priority) == (AuthType.API_KEY, "untested", 1)
    targets = providers.directories.current.resolve("groq/any-model")
    assert [target.connection_id for target in targets] == [made.id]
    assert providers.connections.get(made.id) == made


@pytest.mark.parametrize("name", ["deepseek", "ds", "DS"])
def test_providers_are_named_by_id_prefix_or_alias(providers: Providers, name: str) -> None:
    assert add(providers, name).provider == "deepseek"
    assert len(providers.connections.all(provider="ds")) == 1


def test_the_key_is_stored_encrypted_and_shown_masked(providers: Providers) -> None:
    made = add(providers)
    assert masked_key(made) == "sk-live-…ghij"
    raw = b"".join(path.read_bytes() for path in providers.gateway.settings.data_dir.glob("storage.sqlite*"))
    assert KEY.encode() not in raw
    assert KEY not in repr(made)
    assert KEY not in repr(providers.gateway.audited())


def test_names_and_priorities_follow_those_before(providers: Providers) -> None:
    made = [add(providers), add(providers), add(providers, priority=1, name="first")]
    assert [row.name for row in made] == ["Groq", "Groq 2", "first"]
    assert [row.priority for row in made] == [1, 2, 1]
    order = [target.connection_id for target in providers.directories.current.resolve("groq/m")]
    assert order == [row.id for row in (made[0], made[2], made[1])] or order[2] == made[1].id


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"provider": "nobody", "apiKey": KEY}, "provider"),
        ({"provider": "sandbox"}, "provider"),
        ({"provider": "qwen", "apiKey": KEY}, "provider"),
        ({"provider": "lepton", "apiKey": KEY}, "provider"),
        ({"provider": "openai-compatible", "apiKey": KEY}, "provider"),
        ({"provider": "groq"}, "apiKey"),
        ({"provider": "groq", "apiKey": None}, "apiKey"),
        ({"provider": "groq", "apiKey": "sk-live-…ghij"}, "apiKey"),
        ({"provider": "groq", "apiKey": "a\x01b"}, "apiKey"),
        ({"provider": "opencode", "apiKey": KEY}, "apiKey"),
        ({"provider": "azure-openai", "apiKey": KEY}, "providerData.resource"),
        ({"provider": "azure-openai", "apiKey": KEY, "providerData": {"resource": "a.b/c"}}, "providerData.resource"),
        ({"provider": "groq", "apiKey": KEY, "providerData": {"region": "x"}}, "providerData.region"),
        ({"provider": "groq", "apiKey": KEY, "providerData": {"baseUrl": "https://x.example"}}, "providerData.baseUrl"),
        ({"provider": "ollama", "providerData": {"baseUrl": 5}}, "providerData.baseUrl"),
        ({"provider": "ollama", "providerData": {"baseUrl": "http://localhost:1/?x"}}, "baseUrl"),
    ],
)
def test_refuses_what_cannot_work(providers: Providers, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        providers.connections.create(fields, SYSTEM)
    assert details(caught) == [field]
    assert providers.connections.all() == []


def test_logins_are_not_offered_yet(providers: Providers) -> None:
    with pytest.raises(InvalidRequest) as caught:
        add(providers, "claude")
    assert caught.value.error_code == "not_supported"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://169.254.169.254/v1", UrlBlocked),
        ("http://10.0.0.1/v1", UrlBlocked),
        ("http://rebind.example/v1", UrlBlocked),
        ("http://2130706433/", UrlBlocked),
        ("file:///etc/passwd", UrlBlocked),
    ],
)
def test_addresses_of_local_providers_pass_the_guard(providers: Providers, url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        providers.connections.create({"provider": "ollama", "providerData": {"baseUrl": url}}, SYSTEM)
    assert providers.connections.all() == []


def test_a_local_provider_needs_no_key(providers: Providers) -> None:
    data = {"baseUrl": "http://localhost:9999/"}
    made = providers.connections.create({"provider": "ollama", "providerData": data}, SYSTEM)
    assert made.auth_type is AuthType.NONE
    target = providers.directories.current.resolve("ollama/llama3")[0]
    assert target.endpoints[WireFormat.OPENAI_CHAT].url == "http://localhost:9999/v1/chat/completions"
    unresolved = {"baseUrl": "http://later.example:1/v1"}
    later = providers.connections.create({"provider": "vllm", "providerData": unresolved}, SYSTEM)
    assert later.provider_data == unresolved


def test_lists_filter(providers: Providers) -> None:
    first, second = add(providers), add(providers, "openai", isActive=False)
    connections = providers.connections
    assert [row.id for row in connections.all()] == [first.id, second.id]
    assert [row.id for row in connections.all(provider="openai")] == [second.id]
    assert [row.id for row in connections.all(is_active=True)] == [first.id]
    assert [row.id for row in connections.all(status="untested")] == [first.id, second.id]
    assert connections.all(status="error") == []
    with pytest.raises(ValidationFailed):
        connections.all(provider="nobody")
    with pytest.raises(NotFound):
        connections.get("conn_none")


@pytest.mark.parametrize(
    ("field", "value", "idle"),
    [
        ("requestsPerMinute", 5, None),
        ("minTimeBetweenRequestsMs", 5, 0),
        ("concurrentRequests", 2, None),
        ("quotaCutoffs", {"daily": 90}, {}),
        ("proxyEnabled", True, False),
    ],
)
def test_a_limit_that_nothing_enforces_is_refused(providers: Providers, field: str, value: Any, idle: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"does not enforce {field}") as refused:
        add(providers, **{field: value})
    assert (refused.value.error_code, refused.value.param) == ("not_supported", field)
    assert providers.connections.all() == []
    made = add(providers, **{field: idle})
    with pytest.raises(InvalidRequest):
        providers.connections.change(made.id, {field: value}, SYSTEM)


def test_changes_only_what_is_given(providers: Providers) -> None:
    made = add(providers, group="team", defaultModel="m")
    providers.gateway.clock.pass_(5)
    changed = providers.connections.change(made.id, {"name": "New", "group": None, "priority": 7}, SYSTEM)
    assert (changed.name, changed.group_name, changed.priority, changed.default_model) == ("New", None, 7, "m")
    assert changed.credential == Secret(KEY)
    assert changed.updated_at == made.updated_at + 5
    assert providers.connections.get(made.id) == changed


def test_a_masked_key_sent_back_changes_nothing(providers: Providers) -> None:
    made = add(providers)
    providers.connections.test(made.id, None, SYSTEM)
    same = providers.connections.change(made.id, {"apiKey": masked_key(made)}, SYSTEM)
    assert same.credential == Secret(KEY)
    assert same.test_status == "ok"
    with pytest.raises(ValidationFailed):
        providers.connections.change(made.id, {"apiKey": "sk-other…wxyz"}, SYSTEM)
    changed = providers.connections.change(made.id, {"apiKey": "sk-live-9876543210zyxwvutsrq"}, SYSTEM)
    assert changed.credential == Secret("sk-live-9876543210zyxwvutsrq")
    assert changed.test_status == "untested"
    endpoint = providers.directories.current.resolve("groq/m")[0].endpoints[WireFormat.OPENAI_CHAT]
    assert endpoint.secrets == (b"sk-live-9876543210zyxwvutsrq",)


def test_provider_data_are_merged(providers: Providers) -> None:
    made = add(providers, "bedrock", providerData={"region": "eu-west-1"})
    kept = providers.connections.change(made.id, {"providerData": {}}, SYSTEM)
    assert kept.provider_data == {"region": "eu-west-1"}
    reset = providers.connections.change(made.id, {"providerData": {"region": None}}, SYSTEM)
    assert reset.provider_data == {}
    with pytest.raises(ValidationFailed) as caught:
        providers.connections.change(made.id, {"providerData": {"colour": "red"}}, SYSTEM)
    assert details(caught) == ["providerData.colour"]


def test_the_key_of_an_optional_kind_can_be_taken_away(providers: Providers) -> None:
    made = add(providers, "vllm")
    assert providers.connections.change(made.id, {"apiKey": None}, SYSTEM).auth_type is AuthType.NONE
    keyed = add(providers)
    with pytest.raises(ValidationFailed):
        providers.connections.change(keyed.id, {"apiKey": None}, SYSTEM)


def test_deletes(providers: Providers) -> None:
    first, second, third = add(providers), add(providers), add(providers)
    assert providers.connections.delete(first.id, SYSTEM).id == first.id
    with pytest.raises(NotFound):
        providers.connections.delete(first.id, SYSTEM)
    assert providers.connections.delete_many([second.id, "conn_none", third.id], SYSTEM) == 2
    assert providers.connections.all() == []
    assert providers.directories.current.legs_of("groq") == ()


def test_switches_many(providers: Providers) -> None:
    first, second = add(providers), add(providers)
    assert providers.connections.set_active([first.id, "conn_none"], False, SYSTEM) == (1, ["conn_none"])
    assert [leg.connection_id for leg in providers.directories.current.legs_of("groq")] == [second.id]
    assert providers.connections.set_active([first.id], True, SYSTEM) == (1, [])
    assert providers.connections.get(first.id).credential == Secret(KEY), "the key stays"


def test_reorders(providers: Providers) -> None:
    rows_made = [add(providers) for _ in range(3)]
    ids = [row.id for row in rows_made]
    ordered = providers.connections.reorder("groq", [ids[2], ids[0]], SYSTEM)
    assert [row.id for row in ordered] == [ids[2], ids[0], ids[1]]
    assert [row.priority for row in ordered] == [1, 2, 3]
    tried = [target.connection_id for target in providers.directories.current.resolve("groq/m")]
    assert tried == [ids[2], ids[0], ids[1]]
    other = add(providers, "openai")
    with pytest.raises(ValidationFailed):
        providers.connections.reorder("groq", [other.id], SYSTEM)


def test_unreadable_keys_are_dead_until_replaced(providers: Providers) -> None:
    made = add(providers)
    database = providers.gateway.database
    foreign = Cipher(b"\x01" * 32)
    database.write(lambda sql: rows.update(sql, made, foreign, with_credential=True), bump=True)
    seen = providers.connections.get(made.id)
    assert providers.connections.state_of(seen) == ("dead", "credential_unreadable")
    assert providers.directories.current.legs_of("groq") == ()
    renamed = providers.connections.change(made.id, {"name": "still here"}, SYSTEM)
    assert renamed.is_unreadable
    mended = providers.connections.change(made.id, {"apiKey": KEY}, SYSTEM)
    assert providers.connections.state_of(mended) == ("untested", None)
    assert len(providers.directories.current.legs_of("groq")) == 1


# --- tests of a connection -------------------------------------------------------------------------------------------


def test_a_test_asks_once_whole_and_once_streamed(providers: Providers) -> None:
    made = add(providers)
    result = providers.connections.test(made.id, None, SYSTEM)
    assert result.is_valid
    assert (result.status, result.error, result.diagnosis) == (200, None, None)
    assert [body["stream"] for body in providers.transport.bodies] == [False, True]
    assert {body["max_tokens"] for body in providers.transport.bodies} == {1}
    assert result.model == providers.transport.bodies[0]["model"] == "llama-3.3-70b-versatile"
    assert providers.transport.are_all_closed
    stored = providers.connections.get(made.id)
    assert (stored.test_status, stored.last_error, stored.last_tested_at) == ("ok", None, harness.NOW)


def test_a_test_leaves_a_row_outside_usage(providers: Providers) -> None:
    made = add(providers)
    providers.connections.test(made.id, "groq/openai/gpt-oss-120b", SYSTEM)
    (record,) = providers.log.records
    assert (record.kind, record.provider, record.model) == ("test", "groq", "openai/gpt-oss-120b")
    assert (record.outcome, record.connection_id, record.status) == ("success", made.id, 200)
    assert providers.transport.bodies[0]["model"] == "openai/gpt-oss-120b"


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (json_reply({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, 401), "auth", 401),
        (json_reply({"error": {"message": "no"}}, 402), "no_credit", 402),
        (json_reply({"error": {"message": "slow"}}, 429), "rate", 429),
        (json_reply({"error": {"message": "model x not found"}}, 404), "model_missing", 404),
        (Reply(500), "server", 500),
        (Reply(200, b"<html>", "text/html"), "protocol", 200),
        (json_reply({"error": {"message": "boom", "type": "server_error"}}), "server", 200),
        (Reply(200, b"[]"), "protocol", 200),
        (UpstreamUnreachable(), "transport", None),
        (UpstreamTimeout("headers"), "timeout_headers", None),
        (UrlBlocked(), "blocked", None),
        (Reply(stalls=True), "timeout_total", 200),
    ],
)
def test_a_failed_test_says_why(providers: Providers, reply: Any, code: str, status: int | None) -> None:
    made = add(providers)
    providers.transport.handler = lambda request: reply
    result = providers.connections.test(made.id, None, SYSTEM)
    assert not result.is_valid
    assert result.error is not None
    assert (result.error["code"], result.status) == (code, status)
    assert result.diagnosis
    stored = providers.connections.get(made.id)
    assert stored.test_status == "error"
    assert stored.last_error is not None
    assert stored.last_error["code"] == code
    assert providers.connections.state_of(stored)[0] == "error"
    assert len(providers.transport.sent) == 1, "no streamed call after a failed one"
    assert providers.log.records[0].outcome == "failed"
    assert providers.transport.are_all_closed


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (ANSWER, "protocol"),
        (Reply(200, b"", "text/event-stream"), "truncated"),
        (json_reply({"error": {"message": "x", "type": "overloaded_error"}}), "overloaded"),
        (Reply(503), "overloaded"),
    ],
)
def test_a_provider_that_does_not_stream_fails_the_test(providers: Providers, stream: Reply, code: str) -> None:
    made = add(providers)
    providers.transport.handler = lambda request: stream if request.stream else ANSWER
    result = providers.connections.test(made.id, None, SYSTEM)
    assert result.error is not None
    assert result.error["code"] == code


def test_reasoning_models_take_the_limit_under_another_name(providers: Providers) -> None:
    def handler(request: UpstreamRequest) -> Reply:
        if b'"max_tokens"' in request.body:
            refusal = {"message": "Unsupported parameter: 'max_tokens'", "code": "unsupported_parameter"}
            return json_reply({"error": refusal}, 400)
        return EVENTS if request.stream else ANSWER

    made = add(providers, "openai")
    providers.transport.handler = handler
    assert providers.connections.test(made.id, "o3", SYSTEM).is_valid


def test_the_model_is_found_from_the_providers_own_list(providers: Providers) -> None:
    made = providers.connections.create({"provider": "vllm"}, SYSTEM)
    result = providers.connections.test(made.id, None, SYSTEM)
    assert result.model == "model-a"
    assert [request.method for request in providers.transport.sent] == ["GET", "POST", "POST"]
    providers.transport.handler = lambda request: json_reply({"data": []})
    result = providers.connections.test(made.id, None, SYSTEM)
    assert result.error is not None
    assert result.error["code"] == "no_model"
    named = providers.connections.change(made.id, {"defaultModel": "mine"}, SYSTEM)
    assert named.default_model == "mine"
    providers.transport.handler = lambda request: EVENTS if request.stream else ANSWER
    assert providers.connections.test(made.id, None, SYSTEM).model == "mine"


def test_models_of_another_format_are_asked_in_it(providers: Providers) -> None:
    made = add(providers, "anthropic")
    assert providers.connections.test(made.id, None, SYSTEM).is_valid
    assert providers.transport.sent[0].url == "https://api.anthropic.com/v1/messages"


def test_providers_without_chat_cannot_be_tested(providers: Providers) -> None:
    made = add(providers, "deepgram")
    result = providers.connections.test(made.id, None, SYSTEM)
    assert result.error is not None
    assert result.error["code"] == "unsupported"


def test_reset_forgets_errors(providers: Providers) -> None:
    made = add(providers)
    providers.transport.handler = lambda request: Reply(500)
    providers.connections.test(made.id, None, SYSTEM)
    assert providers.connections.get(made.id).test_status == "error"
    again = providers.connections.reset(made.id, SYSTEM)
    assert (again.test_status, again.last_error, again.last_tested_at) == ("untested", None, None)


def test_test_first_stores_only_what_works(providers: Providers) -> None:
    providers.transport.handler = lambda request: Reply(401)
    with pytest.raises(ValidationFailed) as caught:
        add(providers, testFirst=True)
    assert details(caught) == ["apiKey"]
    providers.transport.handler = lambda request: UpstreamUnreachable()
    with pytest.raises(UpstreamError) as unreachable:
        add(providers, testFirst=True)
    assert unreachable.value.error_code == "provider_unreachable"
    assert providers.connections.all() == []
    providers.transport.handler = lambda request: EVENTS if request.stream else ANSWER
    assert add(providers, testFirst=True).test_status == "ok"


def test_validation_stores_nothing(providers: Providers) -> None:
    found = providers.connections.validate({"provider": "groq", "apiKey": KEY})
    assert (found.is_valid, found.models, found.error) == (True, ("model-a", "model-b"), None)
    providers.transport.handler = lambda request: Reply(401)
    found = providers.connections.validate({"provider": "groq", "apiKey": KEY})
    assert not found.is_valid
    assert found.error is not None
    assert providers.connections.all() == []
    assert providers.log.records == []
    assert providers.gateway.audited() == []


def test_every_change_is_audited(providers: Providers) -> None:
    made = add(providers)
    providers.connections.change(made.id, {"apiKey": "sk-live-9876543210zyxwvutsrq", "name": "x"}, SYSTEM)
    providers.connections.test(made.id, None, SYSTEM)
    providers.connections.reset(made.id, SYSTEM)
    providers.connections.reorder("groq", [made.id], SYSTEM)
    providers.connections.set_active([made.id], False, SYSTEM)
    providers.connections.delete(made.id, SYSTEM)
    actions = [entry.action for entry in providers.gateway.audited()]
    assert actions == [
        "provider.credentials.created",
        "provider.credentials.updated",
        "provider.credentials.tested",
        "provider.credentials.reset",
        "provider.credentials.reordered",
        "provider.credentials.updated",
        "provider.credentials.revoked",
    ]
    assert "sk-live" not in repr(providers.gateway.audited())


def test_a_missing_encryption_key_stores_nothing(gateway: harness.Gateway) -> None:
    providers = providers_of(gateway)
    providers.connections._cipher = Cipher(None)
    with pytest.raises(Conflict) as caught:
        add(providers)
    assert caught.value.error_code == "encryption_key_missing"
    assert providers.connections.all() == []
