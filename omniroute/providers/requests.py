"""Build the HTTP request to a provider.

Everything that does not change between calls is prepared once per connection and format as an :class:`Endpoint`: the
address, the header with the key, the fixed headers. A call then only adds what its client sent and its body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from omniroute import __version__
from omniroute.errors import InvalidRequest
from omniroute.formats.wire import WireFormat
from omniroute.providers.quota_endpoints import OWN_KEY, PLAIN_KEY
from omniroute.providers.spec import PARAMETERS, AuthKind, Provider, Tier, fill
from omniroute.providers.upstream import NOBODY, Deadlines, Sender, UpstreamRequest
from omniroute.records import Node, NodeType
from omniroute.secret import Secret

ANTHROPIC_VERSION: Final = "2023-06-01"

_DEFAULT_DEADLINES: Final = Deadlines()
_DEFAULT_KEY_HEADER: Final = ("Authorization", "Bearer {key}")
_DEFAULTS: Final = {"user-agent": f"OmniRoute/{__version__}"}
_HOST_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,2000}")
_KEY_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?")

_SDK_FACTS: Final = (
    "arch",
    "async",
    "custom-poll-interval",
    "helper",
    "helper-method",
    "lang",
    "os",
    "package-version",
    "poll-helper",
    "raw-response",
    "retry-count",
    "runtime",
    "runtime-version",
    "stream-helper",
    "timeout",
)
"""What the official SDKs say about themselves in `x-stainless-…` headers."""
_COMMON: Final = frozenset({"user-agent", *(f"x-stainless-{fact}" for fact in _SDK_FACTS)})
# What a client may say to a provider, by the format of the address. Everything else that it sends stays here: cookies,
# its own credential, hop-by-hop headers, and whatever a proxy before us added.
_FORWARDED: Final[Mapping[WireFormat, frozenset[str]]] = {
    WireFormat.OPENAI_CHAT: _COMMON | {"openai-beta"},
    WireFormat.OPENAI_RESPONSES: _COMMON | {"openai-beta"},
    WireFormat.ANTHROPIC_MESSAGES: _COMMON | {"anthropic-version", "anthropic-beta"},
    WireFormat.GEMINI: _COMMON,
    WireFormat.OLLAMA: _COMMON,
}
_ENVIRON_NAMES: Final = {
    "HTTP_" + name.upper().replace("-", "_"): name
    for name in (
        "user-agent",
        "anthropic-version",
        "anthropic-beta",
        "openai-beta",
        *(f"x-stainless-{fact}" for fact in _SDK_FACTS),
    )
}

Headers = tuple[tuple[str, str], ...]
ClientHeaders = Headers
"""Forwardable headers of one client request: lower-case names."""


class NotUsable(ValueError):
    """A connection lacks something that its provider needs; `field` names it."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field = field_name


# --- preparing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one connection, ready for calls.

    Attributes:
        url: `{model}` stands for the model id where the address names it.
        fixed: headers that no client can change, the key among them.
        defaults: headers that a client's own value replaces, by lower-case name.
        joined: values that are put before a client's own value of a list header, by lower-case name.
        accepts: lower-case names that are forwarded from the client.
    """

    provider_id: str
    format: WireFormat
    url: str
    stream_url: str
    fixed: Headers = field(repr=False)
    stream_fixed: Headers = field(repr=False)
    defaults: Mapping[str, str]
    joined: Mapping[str, str]
    accepts: frozenset[str]
    unasked: Headers = field(repr=False)
    """The headers of a non-stream call without client headers."""
    stream_unasked: Headers = field(repr=False)
    has_model_in_url: bool = False
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    """What must not be shown to anyone, should the provider's answer repeat it."""
    is_local: bool = False
    is_operator: bool = False
    sender: Sender = NOBODY


def prepare(
    provider: Provider,
    credential: Secret | None,
    provider_data: Mapping[str, Any],
    *,
    secret_headers: Mapping[str, Secret] | None = None,
    connection_id: str = "",
) -> dict[WireFormat, Endpoint]:
    """Return the endpoints of one connection by format.

    Its provider data hold values for the `{name}` parts of the row's addresses, for a local provider also `baseUrl`;
    `secret_headers` are those of a self-defined node.

    Raises:
        NotUsable: a needed value is missing, or one does not have the form it must have.
    """
    values = parameters_of(provider, provider_data)
    base_url = own_base_url(provider, provider_data)
    own_headers = tuple((name, value.reveal()) for name, value in (secret_headers or {}).items())
    secrets = ([credential] if credential is not None else []) + list((secret_headers or {}).values())
    hidden = tuple(secret.reveal().encode() for secret in secrets)
    sender = Sender(provider.id, connection_id)
    endpoints = {}
    for wire_format, template in provider.urls.items():
        url = _fill_url(template, values)
        if base_url is not None:
            url = base_url + url.removeprefix(provider.base_url)
        key_header = _key_header(provider, credential, wire_format)
        row_headers = {name.lower(): fill(value, values) for name, value in provider.headers.items()}
        endpoint = _endpoint(provider, wire_format, url, key_header=key_header, row=row_headers, own=own_headers)
        is_operator = provider.is_operator or base_url is not None
        endpoints[wire_format] = replace(endpoint, secrets=hidden, is_operator=is_operator, sender=sender)
    return endpoints


def _endpoint(
    provider: Provider,
    wire_format: WireFormat,
    url: str,
    *,
    key_header: Headers,
    row: dict[str, str],
    own: Headers,
) -> Endpoint:
    joined = {"anthropic-beta": row.pop("anthropic-beta")} if "anthropic-beta" in row else {}
    own_names = {name.lower() for name, _ in own}
    defaults = dict(_DEFAULTS)
    if wire_format is WireFormat.ANTHROPIC_MESSAGES:
        defaults["anthropic-version"] = ANTHROPIC_VERSION
    for name in own_names & defaults.keys():
        del defaults[name]
    fixed = (
        *key_header,
        *row.items(),
        *own,
        ("Content-Type", "application/json"),
        # A compressed stream would arrive in blocks of the compressor's choosing, and costs time on both sides.
        ("Accept-Encoding", "identity"),
    )
    plain = (*fixed, ("Accept", "application/json"))
    streamed = (*fixed, ("Accept", "text/event-stream"))
    unasked = (*joined.items(), *defaults.items())
    stream_url = url
    if wire_format is WireFormat.GEMINI:
        stream_url = url.replace(":generateContent", ":streamGenerateContent") + "?alt=sse"
    return Endpoint(
        provider_id=provider.id,
        format=wire_format,
        url=url,
        stream_url=stream_url,
        fixed=plain,
        stream_fixed=streamed,
        defaults=defaults,
        joined=joined,
        accepts=_FORWARDED.get(wire_format, _COMMON) - own_names,
        unasked=plain + unasked,
        stream_unasked=streamed + unasked,
        has_model_in_url="{model}" in url,
        is_local=provider.is_local,
    )


def _key_header(provider: Provider, credential: Secret | None, wire_format: WireFormat | None = None) -> Headers:
    header = provider.key_header
    if wire_format is not None:
        header = provider.key_headers.get(wire_format, header)
    if credential is None or header is None:
        return ()
    key = credential.reveal()
    if not _KEY_VALUE.fullmatch(key):
        raise NotUsable("apiKey", "The key holds characters that cannot be sent.")
    return ((header[0], header[1].replace("{key}", key)),)


def parameters_of(provider: Provider, provider_data: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the `{name}` parts of a row's addresses and headers, checked against their patterns."""
    values = {}
    for name in provider.parameters:
        value = provider_data.get(name, provider.defaults.get(name))
        if value is None:
            raise NotUsable(f"providerData.{name}", f"{provider.name} needs this value.")
        if not isinstance(value, str) or not PARAMETERS[name].fullmatch(value):
            raise NotUsable(f"providerData.{name}", f"This is not a valid {name} for {provider.name}.")
        values[name] = value
    return values


def own_base_url(provider: Provider, provider_data: Mapping[str, Any]) -> str | None:
    """Return the base URL that a connection of a local provider sets, without a trailing slash."""
    given = provider_data.get("baseUrl")
    if given is None:
        return None
    if not provider.is_local:
        raise NotUsable(
            "providerData.baseUrl", f"The address of {provider.name} is fixed; add a provider node instead."
        )
    if not isinstance(given, str) or not given:
        raise NotUsable("providerData.baseUrl", "This is not a URL.")
    return given.rstrip("/")


def list_request(
    provider: Provider,
    credential: Secret | None,
    provider_data: Mapping[str, Any],
    *,
    secret_headers: Mapping[str, Secret] | None = None,
    deadlines: Deadlines = _DEFAULT_DEADLINES,
    connection_id: str = "",
) -> UpstreamRequest | None:
    """Return the request for the provider's model list, or None when it publishes none.

    Raises:
        NotUsable: see :func:`prepare`.
    """
    if provider.models_url is None:
        return None
    key = _key_header(provider, credential)
    sender = Sender(provider.id, connection_id)
    return _get(
        provider, provider.models_url, key, provider_data, sender, secret_headers=secret_headers, deadlines=deadlines
    )


def usage_request(
    provider: Provider,
    credential: Secret | None,
    provider_data: Mapping[str, Any],
    *,
    secret_headers: Mapping[str, Secret] | None = None,
    deadlines: Deadlines = _DEFAULT_DEADLINES,
    connection_id: str = "",
) -> UpstreamRequest | None:
    """Return the request for the provider's report of quota or credit, or None when it has none.

    Raises:
        NotUsable: see :func:`prepare`.
    """
    url, shape = provider.usage_url, provider.usage_shape
    if url is None or shape is None or credential is None:
        return None
    if shape not in OWN_KEY:
        template = "{key}" if shape in PLAIN_KEY else "Bearer {key}"
        provider = replace(provider, key_header=("Authorization", template))
    key = _key_header(provider, credential)
    sender = Sender(provider.id, connection_id)
    return _get(provider, url, key, provider_data, sender, secret_headers=secret_headers, deadlines=deadlines)


def _get(
    provider: Provider,
    template: str,
    key: Headers,
    provider_data: Mapping[str, Any],
    sender: Sender,
    *,
    secret_headers: Mapping[str, Secret] | None,
    deadlines: Deadlines,
) -> UpstreamRequest:
    values = parameters_of(provider, provider_data)
    url = _fill_url(template, values)
    base_url = own_base_url(provider, provider_data)
    if base_url is not None and url.startswith(provider.base_url):
        url = base_url + url.removeprefix(provider.base_url)
    headers = {name.lower(): fill(value, values) for name, value in provider.headers.items()}
    if WireFormat.ANTHROPIC_MESSAGES in provider.urls:
        headers["anthropic-version"] = ANTHROPIC_VERSION
    own = tuple((name, value.reveal()) for name, value in (secret_headers or {}).items())
    sent = (
        *key,
        *headers.items(),
        *own,
        *_DEFAULTS.items(),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
    )
    is_operator = provider.is_operator or base_url is not None
    return UpstreamRequest("GET", url, sent, b"", deadlines, provider.is_local, is_operator, sender=sender)


def _fill_url(template: str, values: Mapping[str, str]) -> str:
    """Fill everything but `{model}`, which changes with every call."""
    return fill(template, {**values, "model": "{model}"})


_NODE_FORMATS: Final[Mapping[tuple[NodeType, str | None], tuple[WireFormat, str]]] = {
    (NodeType.OPENAI, None): (WireFormat.OPENAI_CHAT, "/chat/completions"),
    (NodeType.OPENAI, "chat"): (WireFormat.OPENAI_CHAT, "/chat/completions"),
    (NodeType.OPENAI, "responses"): (WireFormat.OPENAI_RESPONSES, "/responses"),
    (NodeType.ANTHROPIC, None): (WireFormat.ANTHROPIC_MESSAGES, "/messages"),
    (NodeType.ANTHROPIC, "chat"): (WireFormat.ANTHROPIC_MESSAGES, "/messages"),
    (NodeType.GEMINI, None): (WireFormat.GEMINI, "/models/{model}:generateContent"),
    (NodeType.GEMINI, "chat"): (WireFormat.GEMINI, "/models/{model}:generateContent"),
    (NodeType.OLLAMA, None): (WireFormat.OLLAMA, "/api/chat"),
    (NodeType.OLLAMA, "chat"): (WireFormat.OLLAMA, "/api/chat"),
}
_NODE_KEY_HEADERS: Final = {
    NodeType.OPENAI: _DEFAULT_KEY_HEADER,
    NodeType.ANTHROPIC: ("x-api-key", "{key}"),
    NodeType.GEMINI: ("x-goog-api-key", "{key}"),
    NodeType.OLLAMA: _DEFAULT_KEY_HEADER,
}


def provider_of_node(node: Node) -> Provider:
    """Return a self-defined endpoint as a provider row; its id is the node's, its addresses are the operator's."""
    base = node.base_url.rstrip("/")
    served = _NODE_FORMATS.get((node.type, node.api_type))
    urls = {} if served is None else {served[0]: base + (node.chat_path or served[1])}
    models_path = node.models_path or ("/api/tags" if node.type is NodeType.OLLAMA else "/models")
    return Provider(
        id=node.id,
        prefix=node.prefix,
        name=node.name,
        tier=Tier.LOCAL if node.is_local else Tier.API_KEY,
        auth=(AuthKind.API_KEY, AuthKind.NONE),
        base_url=base,
        urls=urls,
        models_url=base + models_path,
        key_header=_NODE_KEY_HEADERS[node.type],
        services=(node.api_type or "chat",),
        is_local=node.is_local,
        is_operator=True,
    )


# --- calling -------------------------------------------------------------------------------------------------------


def forwardable(environ: Mapping[str, Any]) -> ClientHeaders:
    """Pick from a WSGI environment the headers that a provider may see."""
    return _picked(tuple(map(environ.get, _ENVIRON_NAMES)))


@lru_cache(maxsize=512)
def _picked(values: tuple[str | None, ...]) -> ClientHeaders:
    # Clients repeat themselves: the same few sets of values come with every call.
    return tuple(
        (name, value)
        for name, value in zip(_ENVIRON_NAMES.values(), values, strict=True)
        if value and _HEADER_VALUE.fullmatch(value)
    )


def build(
    endpoint: Endpoint,
    *,
    model: str,
    body: bytes,
    client_headers: ClientHeaders = (),
    stream: bool = False,
    deadlines: Deadlines = _DEFAULT_DEADLINES,
) -> UpstreamRequest:
    """Return the request for one call.

    `model` is the provider's own id, which is in `body` already and goes into the address of the formats that have it
    there; `client_headers` are what :func:`forwardable` picked.

    Raises:
        InvalidRequest: the model id cannot stand in the provider's address.
    """
    url = endpoint.stream_url if stream else endpoint.url
    if endpoint.has_model_in_url:
        url = _with_model(url, model)
    if client_headers:
        headers = _with_client(endpoint, client_headers, endpoint.stream_fixed if stream else endpoint.fixed)
    else:
        headers = endpoint.stream_unasked if stream else endpoint.unasked
    is_local, is_operator = endpoint.is_local, endpoint.is_operator
    return UpstreamRequest("POST", url, headers, body, deadlines, is_local, is_operator, stream, sender=endpoint.sender)


def _with_client(endpoint: Endpoint, client_headers: ClientHeaders, fixed: Headers) -> Headers:
    accepts = endpoint.accepts
    sent = dict(endpoint.defaults)
    if endpoint.joined:
        sent.update(endpoint.joined)
    for name, value in client_headers:
        if name in accepts:
            sent[name] = f"{endpoint.joined[name]},{value}" if name in endpoint.joined else value
    return (*fixed, *sent.items())


def _with_model(url: str, model: str) -> str:
    in_host = url.find("{model}") < url.find("/", 8)
    if in_host and not _HOST_LABEL.fullmatch(model):
        raise InvalidRequest("This provider names its models with letters, digits and dashes only.", param="model")
    if model in (".", ".."):
        raise InvalidRequest("This is not a model name.", param="model")
    return url.replace("{model}", quote(model, safe=""))
