"""Connections: what may be stored, what is shown, what tests find."""

from __future__ import annotations

from collections.abc import Callable
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
from omniroute.routing.events import AttemptFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.secret import Secret
from omniroute.services.connections import Connections, masked_key
from omniroute.services.keys import SYSTEM
from omniroute.storage.repositories import connections as rows
from omniroute.storage.secrets import Cipher
from omniroute.storage.state import StateStore
from tests import harness
from tests.services.providers import ANSWER, EVENTS, Providers, Reply, healthy, json_reply, providers_of

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


def test_a_connection_takes_part_in_proxies_unless_told_otherwise(providers: Providers) -> None:
    made = add(providers)
    assert made.proxy_enabled
    assert not providers.connections.change(made.id, {"proxyEnabled": False}, SYSTEM).proxy_enabled
    assert not add(providers, proxyEnabled=False).proxy_enabled


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


# --- rests -----------------------------------------------------------------------------------------------------------


def rest(providers: Providers, made: Connection, kind: str, failure_class: FailureClass, model: str = "m") -> None:
    """Let an attempt fail on a connection, or on the one of the same key that rests for both."""
    accounts = providers.directories.current.accounts_of(made.provider)
    account = next(one for one in accounts if one.id == made.id)
    now = providers.gateway.clock()
    failure = Failure(kind, failure_class, retry_after_s=600.0, hint_source="retry-after")
    providers.board.record(AttemptFailed(account, model, failure, now))


def resting(providers: Providers) -> set[tuple[str, str]]:
    return {(row.scope.partition(":")[0], row.kind.value) for row in providers.board.state()}


def rest_in_every_way(providers: Providers, made: Connection) -> None:
    rest(providers, made, "rate", FailureClass.RATE_LIMIT)
    rest(providers, made, "model_missing", FailureClass.MODEL_UNAVAILABLE)
    rest(providers, made, "auth", FailureClass.CREDENTIAL)
    assert resting(providers) == {("connection", "cooldown"), ("model", "lockout"), ("connection", "dead")}


def test_the_state_of_a_connection_is_what_its_traffic_found(providers: Providers) -> None:
    made, other = add(providers), add(providers, apiKey="sk-live-another-key-0123")
    rest(providers, made, "rate", FailureClass.RATE_LIMIT)
    assert providers.connections.state_of(made) == ("cooling", "rate")
    standing = providers.connections.standing_of(made)
    assert standing.until is not None
    assert 600 <= standing.until - harness.NOW <= 613
    assert standing.backoff == 1
    assert providers.connections.state_of(other) == ("untested", None)
    assert [row.id for row in providers.connections.all(status="cooling")] == [made.id]
    rest(providers, made, "auth", FailureClass.CREDENTIAL)
    assert providers.connections.state_of(made) == ("dead", "auth")
    assert providers.connections.standing_of(made).until is None
    providers.gateway.clock.pass_(700)
    providers.connections.reset(made.id, SYSTEM)
    assert providers.connections.state_of(made) == ("untested", None)


def test_a_rest_that_is_over_by_time_is_none(providers: Providers) -> None:
    made = add(providers)
    rest(providers, made, "rate", FailureClass.RATE_LIMIT)
    providers.gateway.clock.pass_(620)
    assert providers.connections.state_of(made) == ("untested", None)
    assert providers.connections.standing_of(made).backoff == 1


def test_connections_of_the_same_key_rest_together(providers: Providers) -> None:
    made, twin = add(providers), add(providers)
    rest(providers, made, "rate", FailureClass.RATE_LIMIT)
    assert providers.connections.state_of(twin) == ("cooling", "rate")
    providers.connections.reset(twin.id, SYSTEM)
    assert providers.connections.state_of(made) == ("untested", None)


@pytest.mark.parametrize(
    "act",
    [
        lambda service, made: service.change(made.id, {"apiKey": "sk-live-a-new-key-0123456"}, SYSTEM),
        lambda service, made: service.reset(made.id, SYSTEM),
        lambda service, made: service.delete(made.id, SYSTEM),
        lambda service, made: service.delete_many([made.id], SYSTEM),
    ],
    ids=["new key", "reset", "delete", "delete many"],
)
def test_what_is_known_of_a_connection_goes_with_it(
    providers: Providers, act: Callable[[Connections, Connection], object]
) -> None:
    made, other = add(providers), add(providers, "openai")
    rest_in_every_way(providers, made)
    rest(providers, other, "rate", FailureClass.RATE_LIMIT)
    act(providers.connections, made)
    assert resting(providers) == {("connection", "cooldown")}
    assert providers.connections.state_of(other) == ("cooling", "rate")
    stored = StateStore(providers.gateway.database, providers.gateway.clock).load_health()
    assert {row.scope for row in stored if not row.is_clear} == {f"connection:{other.id}"}, "for all workers"


def test_rests_that_another_worker_stored_are_found(providers: Providers) -> None:
    made = add(providers)
    rest(providers, made, "model_missing", FailureClass.MODEL_UNAVAILABLE)
    providers.board.flush(1.0)
    for row in providers.board.state():
        providers.board.copy.drop(row.key)
    providers.connections.reset(made.id, SYSTEM)
    stored = StateStore(providers.gateway.database, providers.gateway.clock).load_health()
    assert [row.is_clear for row in stored] == [True]


def test_an_edit_that_changes_no_credential_ends_no_rest(providers: Providers) -> None:
    made = add(providers)
    rest_in_every_way(providers, made)
    before = resting(providers)
    providers.connections.change(made.id, {"name": "Other", "requestsPerMinute": 5}, SYSTEM)
    assert resting(providers) == before


@pytest.mark.parametrize("many", [False, True])
def test_switching_on_again_gives_what_was_given_up_another_chance(providers: Providers, many: bool) -> None:
    made = add(providers)
    rest_in_every_way(providers, made)
    for is_active in (False, True):
        if many:
            providers.connections.set_active([made.id], is_active, SYSTEM)
        else:
            providers.connections.change(made.id, {"isActive": is_active}, SYSTEM)
    assert resting(providers) == {("connection", "cooldown"), ("model", "lockout")}


def test_a_test_ends_the_rests_that_it_disproves(providers: Providers) -> None:
    made = add(providers)
    rest_in_every_way(providers, made)
    rest(providers, made, "model_missing", FailureClass.MODEL_UNAVAILABLE, model="other")
    providers.transport.handler = lambda request: Reply(500)
    assert not providers.connections.test(made.id, "m", SYSTEM).is_valid
    assert len(resting(providers)) == 3, "a test that fails ends nothing"
    providers.transport.handler = healthy
    assert providers.connections.test(made.id, "m", SYSTEM).is_valid
    (left,) = providers.board.state()
    assert left.scope == f"model:{made.id}|other"


def test_limits_are_stored_and_reach_routing(providers: Providers) -> None:
    made = add(providers, requestsPerMinute=60, minTimeBetweenRequestsMs=100, concurrentRequests=3)
    (account,) = providers.directories.current.accounts_of("groq")
    assert (account.requests_per_minute, account.min_gap_ms, account.max_concurrent) == (60, 100, 3)
    providers.connections.change(made.id, {"requestsPerMinute": None, "concurrentRequests": 0}, SYSTEM)
    (account,) = providers.directories.current.accounts_of("groq")
    assert (account.requests_per_minute, account.min_gap_ms, account.max_concurrent) == (0, 100, 0)


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
