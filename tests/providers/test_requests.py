"""Requests to providers: who may say what, where the key goes, what can stand in an address."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import InvalidRequest
from omniroute.formats.wire import WireFormat
from omniroute.providers.catalog import load
from omniroute.providers.requests import (
    Endpoint,
    NotUsable,
    build,
    forwardable,
    list_request,
    prepare,
    provider_of_node,
)
from omniroute.providers.spec import AuthKind, Provider, ProviderStatus
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.records import Node, NodeType
from omniroute.secret import Secret

CATALOGUE = load()
KEY = Secret("sk-test-0123456789abcdef")
VALUES = {
    "account": "xy12345",
    "accountId": "a" * 32,
    "apiHost": "api.x.hana.ondemand.com",
    "app": "app",
    "deployment": "dep",
    "location": "europe-west4",
    "productId": "1",
    "project": "project-1",
    "region": "eu-central-1",
    "resource": "res",
    "resourceGroup": "default",
    "tenant": "tenant",
    "userId": "user",
    "workspace": "ws",
    "workspaceHost": "dbc-1.cloud.databricks.com",
}


def endpoint(provider_id: str, wire_format: WireFormat = WireFormat.OPENAI_CHAT, **data: Any) -> Endpoint:
    return prepare(CATALOGUE.providers[provider_id], KEY, data)[wire_format]


def headers_of(request: UpstreamRequest) -> dict[str, str]:
    names = [name.lower() for name, _ in request.headers]
    assert len(names) == len(set(names)), "each header once"
    return {name.lower(): value for name, value in request.headers}


def test_an_openai_call() -> None:
    request = build(endpoint("groq"), model="m", body=b"{}")
    assert (request.method, request.url) == ("POST", "https://api.groq.com/openai/v1/chat/completions")
    headers = headers_of(request)
    assert headers["authorization"] == f"Bearer {KEY.reveal()}"
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"] == "application/json"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("OmniRoute/")
    assert not request.is_local
    assert not request.is_operator
    assert not request.stream


def test_an_anthropic_stream() -> None:
    request = build(endpoint("anthropic", WireFormat.ANTHROPIC_MESSAGES), model="m", body=b"{}", stream=True)
    headers = headers_of(request)
    assert headers["x-api-key"] == KEY.reveal()
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["accept"] == "text/event-stream"
    assert "authorization" not in headers
    assert request.stream


@pytest.mark.parametrize(
    ("provider_id", "wire_format", "name", "value"),
    [
        ("deepseek", WireFormat.OPENAI_CHAT, "authorization", "Bearer {key}"),
        ("deepseek", WireFormat.ANTHROPIC_MESSAGES, "x-api-key", "{key}"),
        ("gemini", WireFormat.GEMINI, "x-goog-api-key", "{key}"),
        ("gemini", WireFormat.OPENAI_CHAT, "authorization", "Bearer {key}"),
        ("kimi-coding-apikey", WireFormat.OPENAI_CHAT, "authorization", "Bearer {key}"),
        ("kimi-coding-apikey", WireFormat.ANTHROPIC_MESSAGES, "x-api-key", "{key}"),
        ("maritalk", WireFormat.OPENAI_CHAT, "authorization", "Key {key}"),
        ("sarvam", WireFormat.OPENAI_CHAT, "api-subscription-key", "{key}"),
    ],
)
def test_the_key_goes_where_each_address_wants_it(
    provider_id: str, wire_format: WireFormat, name: str, value: str
) -> None:
    headers = headers_of(build(endpoint(provider_id, wire_format), model="m", body=b""))
    assert headers[name] == value.format(key=KEY.reveal())
    assert sum(KEY.reveal() in text for text in headers.values()) == 1


def test_what_a_client_may_say() -> None:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "wsgi.input": None,
        "HTTP_AUTHORIZATION": "Bearer sk-client",
        "HTTP_X_API_KEY": "sk-client",
        "HTTP_COOKIE": "auth_token=1",
        "HTTP_HOST": "localhost",
        "HTTP_CONNECTION": "keep-alive",
        "HTTP_X_FORWARDED_FOR": "1.2.3.4",
        "HTTP_X_OMNIROUTE_TAG": "t",
        "HTTP_ACCEPT": "*/*",
        "HTTP_ACCEPT_ENCODING": "gzip",
        "HTTP_USER_AGENT": "client/1",
        "HTTP_ANTHROPIC_VERSION": "2024-01-01",
        "HTTP_ANTHROPIC_BETA": "files-2025",
        "HTTP_OPENAI_BETA": "assistants=v2",
        "HTTP_X_STAINLESS_LANG": "python",
        "HTTP_X_STAINLESS_RETRY_COUNT": "0",
    }
    sent = forwardable(environ)
    assert dict(sent) == {
        "user-agent": "client/1",
        "anthropic-version": "2024-01-01",
        "anthropic-beta": "files-2025",
        "openai-beta": "assistants=v2",
        "x-stainless-lang": "python",
        "x-stainless-retry-count": "0",
    }
    anthropic = endpoint("anthropic", WireFormat.ANTHROPIC_MESSAGES)
    headers = headers_of(build(anthropic, model="m", body=b"", client_headers=sent))
    assert headers["anthropic-version"] == "2024-01-01"
    assert headers["anthropic-beta"] == "files-2025"
    assert headers["user-agent"] == "client/1"
    assert "openai-beta" not in headers
    openai = headers_of(build(endpoint("openai"), model="m", body=b"", client_headers=sent))
    assert openai["openai-beta"] == "assistants=v2"
    assert openai["x-stainless-lang"] == "python"
    assert not any(name.startswith("anthropic") for name in openai)
    for found in (headers, openai):
        assert "client" not in found.get("authorization", "")
        assert found["accept-encoding"] == "identity"


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\x00", "bücher", "x" * 2001, ""])
def test_unfit_client_values_are_left_out(value: str) -> None:
    assert forwardable({"HTTP_USER_AGENT": value}) == ()


def test_a_fixed_beta_flag_is_joined_with_the_clients() -> None:
    row = Provider(
        "p",
        "p",
        "P",
        urls={WireFormat.ANTHROPIC_MESSAGES: "https://p.example/v1/messages"},
        headers={"anthropic-beta": "own-1"},
    )
    prepared = prepare(row, KEY, {})[WireFormat.ANTHROPIC_MESSAGES]
    plain = headers_of(build(prepared, model="m", body=b""))
    assert plain["anthropic-beta"] == "own-1"
    joined = headers_of(build(prepared, model="m", body=b"", client_headers=(("anthropic-beta", "theirs"),)))
    assert joined["anthropic-beta"] == "own-1,theirs"


def test_secrets_do_not_show() -> None:
    prepared = endpoint("groq")
    request = build(prepared, model="m", body=KEY.reveal().encode())
    assert KEY.reveal() not in repr(prepared)
    assert KEY.reveal() not in repr(request)
    assert prepared.secrets == (KEY.reveal().encode(),)


@pytest.mark.parametrize("key", ["", "a\r\nb", "a\nb", " a", "a ", "schlüssel", "a\x00b"])
def test_keys_that_cannot_be_sent_are_refused(key: str) -> None:
    with pytest.raises(NotUsable) as caught:
        prepare(CATALOGUE.providers["groq"], Secret(key), {})
    assert caught.value.field == "apiKey"


def test_every_row_with_a_key_can_be_prepared() -> None:
    prepared = 0
    for row in CATALOGUE:
        if row.status is ProviderStatus.DISCONTINUED or AuthKind.OAUTH in row.auth:
            continue
        for wire_format, one in prepare(row, None if row.is_implicit else KEY, VALUES).items():
            prepared += 1
            request = build(one, model="model-1", body=b"")
            assert one.format is wire_format
            assert "{" not in request.url
            assert "{" not in "".join(value for _, value in request.headers)
            headers_of(request)
    assert prepared > 190


def test_addresses_with_parts_need_them() -> None:
    row = CATALOGUE.providers["azure-openai"]
    with pytest.raises(NotUsable) as caught:
        prepare(row, KEY, {})
    assert caught.value.field == "providerData.resource"
    for bad in ("a.b", "x/../y", "evil.example#", 5, "", None):
        with pytest.raises(NotUsable):
            prepare(row, KEY, {"resource": bad})
    url = prepare(row, KEY, {"resource": "mine"})[WireFormat.OPENAI_CHAT].url
    assert url == "https://mine.openai.azure.com/openai/v1/chat/completions"


def test_defaults_of_parts() -> None:
    url = endpoint("bedrock").url
    assert url == "https://bedrock-mantle.us-east-1.api.aws/v1/chat/completions"
    assert "eu-west-1" in endpoint("bedrock", region="eu-west-1").url


def test_a_local_provider_may_be_elsewhere() -> None:
    row = CATALOGUE.providers["ollama"]
    prepared = prepare(row, None, {"baseUrl": "http://192.168.1.5:11434/"})
    assert prepared[WireFormat.OPENAI_CHAT].url == "http://192.168.1.5:11434/v1/chat/completions"
    assert prepared[WireFormat.OLLAMA].url == "http://192.168.1.5:11434/api/chat"
    assert prepared[WireFormat.OLLAMA].is_local
    assert prepared[WireFormat.OLLAMA].is_operator
    assert not prepare(row, None, {})[WireFormat.OLLAMA].is_operator
    with pytest.raises(NotUsable) as caught:
        prepare(CATALOGUE.providers["groq"], KEY, {"baseUrl": "https://evil.example"})
    assert caught.value.field == "providerData.baseUrl"


def test_model_ids_in_addresses_are_encoded() -> None:
    gemini = endpoint("gemini", WireFormat.GEMINI)
    assert gemini.has_model_in_url
    request = build(gemini, model="tuned/../x y#?%", body=b"")
    assert request.url.endswith("/v1beta/models/tuned%2F..%2Fx%20y%23%3F%25:generateContent")
    stream = build(gemini, model="gemini-3-pro", body=b"", stream=True)
    assert stream.url.endswith("/models/gemini-3-pro:streamGenerateContent?alt=sse")
    for model in ("..", "."):
        with pytest.raises(InvalidRequest):
            build(gemini, model=model, body=b"")


@pytest.mark.parametrize("model", ["a.b", "a/b", "a@b", "A", "", "-a", "a" * 64, "a:1", "a\n"])
def test_model_ids_in_hosts_are_labels(model: str) -> None:
    row = Provider("p", "p", "P", urls={WireFormat.OPENAI_CHAT: "https://{model}.p.example/v1/chat/completions"})
    prepared = prepare(row, KEY, {})[WireFormat.OPENAI_CHAT]
    assert build(prepared, model="llama-3", body=b"").url == "https://llama-3.p.example/v1/chat/completions"
    with pytest.raises(InvalidRequest):
        build(prepared, model=model, body=b"")


@given(st.text(min_size=1, max_size=40))
def test_no_model_id_leaves_its_segment(model: str) -> None:
    gemini = endpoint("gemini", WireFormat.GEMINI)
    try:
        url = build(gemini, model=model, body=b"").url
    except (InvalidRequest, UnicodeEncodeError):
        return
    head, tail = "https://generativelanguage.googleapis.com/v1beta/models/", ":generateContent"
    assert url.startswith(head)
    assert url.endswith(tail)
    assert "/" not in url[len(head) : -len(tail)]


@pytest.mark.parametrize(
    ("node_type", "api_type", "wire_format", "url"),
    [
        (NodeType.OPENAI, None, WireFormat.OPENAI_CHAT, "http://h.example/v1/chat/completions"),
        (NodeType.OPENAI, "responses", WireFormat.OPENAI_RESPONSES, "http://h.example/v1/responses"),
        (NodeType.ANTHROPIC, "chat", WireFormat.ANTHROPIC_MESSAGES, "http://h.example/v1/messages"),
        (NodeType.GEMINI, None, WireFormat.GEMINI, "http://h.example/v1/models/{model}:generateContent"),
        (NodeType.OLLAMA, None, WireFormat.OLLAMA, "http://h.example/v1/api/chat"),
    ],
)
def test_nodes_as_providers(node_type: NodeType, api_type: str | None, wire_format: WireFormat, url: str) -> None:
    node = Node("node_1", "N", "n", node_type, "http://h.example/v1/", api_type=api_type, is_local=True)
    row = provider_of_node(node)
    prepared = prepare(row, KEY, {}, secret_headers={"X-Team": Secret("t")})[wire_format]
    assert prepared.url == url
    assert prepared.is_operator
    assert prepared.is_local
    assert headers_of(build(prepared, model="m", body=b""))["x-team"] == "t"


def test_a_node_of_another_api_has_no_chat() -> None:
    row = provider_of_node(Node("node_1", "N", "n", NodeType.OPENAI, "https://h.example", api_type="embeddings"))
    assert prepare(row, KEY, {}) == {}
    assert row.services == ("embeddings",)


def test_a_nodes_own_headers_win_over_defaults_and_clients() -> None:
    node = Node("node_1", "N", "n", NodeType.ANTHROPIC, "https://h.example", chat_path="/chat")
    prepared = prepare(
        provider_of_node(node), KEY, {}, secret_headers={"User-Agent": Secret("mine"), "anthropic-version": Secret("x")}
    )[WireFormat.ANTHROPIC_MESSAGES]
    assert prepared.url == "https://h.example/chat"
    sent = (("user-agent", "theirs"), ("anthropic-version", "y"))
    headers = headers_of(build(prepared, model="m", body=b"", client_headers=sent))
    assert (headers["user-agent"], headers["anthropic-version"]) == ("mine", "x")


def test_model_lists() -> None:
    request = list_request(CATALOGUE.providers["anthropic"], KEY, {}, deadlines=Deadlines(total_s=3))
    assert request is not None
    assert (request.method, request.url, request.body) == ("GET", "https://api.anthropic.com/v1/models", b"")
    headers = headers_of(request)
    assert headers["x-api-key"] == KEY.reveal()
    assert headers["anthropic-version"] == "2023-06-01"
    assert request.deadlines.total_s == 3
    assert list_request(CATALOGUE.providers["codestral"], KEY, {}) is None
    local = list_request(CATALOGUE.providers["ollama"], None, {"baseUrl": "http://10.0.0.1:1"})
    assert local is not None
    assert local.url == "http://10.0.0.1:1/api/tags"
    assert local.is_operator
