"""How many tokens a request has: the provider's word where it counts in the client's format, ours otherwise.

Never an error for a provider's failure: a client that counts before it sends must not be stopped by the count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from omniroute.errors import MissingField, OmniRouteError
from omniroute.formats.canonical import Request
from omniroute.formats.splice import TopLevel, scan, splice
from omniroute.formats.token_count import TextCounter, count
from omniroute.formats.wire import WireFormat
from omniroute.gateway.admitted import admitted_targets
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.directory import Target
from omniroute.gateway.driver import in_ascii, read_all
from omniroute.gateway.handover import Answer, Call
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.slices import Slices
from omniroute.providers import requests
from omniroute.providers.profiles import is_vendor, preferred_format
from omniroute.providers.requests import Endpoint
from omniroute.providers.upstream import Deadlines, UpstreamRequest

log = logging.getLogger(__name__)

_MAX_ANSWER: Final = 1 << 20
_DEADLINES: Final = Deadlines(connect_s=5.0, headers_s=10.0, content_s=10.0, idle_s=10.0, total_s=15.0)
_MEMBERS: Final = {WireFormat.ANTHROPIC_MESSAGES: "input_tokens", WireFormat.GEMINI: "totalTokens"}
_NOT_COUNTED: Final = ("stream", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "metadata")
"""What clients may send along and the vendor's counter refuses."""


class Counting:
    """Counts the tokens of requests in the formats that have an endpoint for it."""

    def __init__(
        self,
        *,
        resolve: Callable[[str], Sequence[Target]],
        send: Callable[[UpstreamRequest], UpstreamResponse],
        now: Callable[[], float],
        exactly: TextCounter,
    ) -> None:
        """`now` is a monotonic clock in seconds; `exactly` counts texts of models whose vocabulary is known."""
        self._exactly = exactly
        self._resolve = resolve
        self._send = send
        self._now = now

    def messages(self, call: Call) -> Answer:
        """Answer `POST /v1/messages/count_tokens`: `{input_tokens, source, model?, provider?}`.

        Raises:
            OmniRouteError: the body is not a request, or the caller may not use the model.
        """
        top = scan(call.body, acted_on=DIALECTS[Surface.ANTHROPIC_MESSAGES].acted_on)
        model = top.value("model")
        if "messages" not in top:
            raise MissingField("The field 'messages' is required.", param="messages")
        if model is None:
            return _answer({"input_tokens": self._local(call, top, None), "source": "local"})
        return self._count(call, top, str(model), WireFormat.ANTHROPIC_MESSAGES)

    def gemini(self, call: Call) -> Answer:
        """Answer `POST /v1beta/models/{model}:countTokens`: `{totalTokens}`.

        Raises:
            OmniRouteError: the body is not a request, or the caller may not use the model.
        """
        top = scan(call.body)
        wrapped = top.spans.get("generateContentRequest")
        if wrapped is not None:  # a whole request may stand inside
            call = replace(call, body=call.body[wrapped[0] : wrapped[1]])
            top = scan(call.body)
        if "contents" not in top:
            raise MissingField("The field 'contents' is required.", param="contents")
        return self._count(call, top, call.model or "", WireFormat.GEMINI)

    def _count(self, call: Call, top: TopLevel, model: str, wire_format: WireFormat) -> Answer:
        targets = admitted_targets(call.caller, model, self._resolve)
        member = _MEMBERS[wire_format]
        first = targets[0]
        told = self._asked(call, top, first, wire_format) if is_vendor(first.provider, wire_format) else None
        tokens, source = (told, "provider") if told is not None else (self._local(call, top, first), "local")
        headers = {
            "X-OmniRoute-Model": in_ascii(first.name),
            "X-OmniRoute-Provider": in_ascii(first.provider.prefix),
        }
        if wire_format is WireFormat.GEMINI:  # its clients take the vendor's members and nothing else
            return _answer({member: tokens}, headers)
        return _answer(
            {member: tokens, "source": source, "model": first.name, "provider": first.provider.prefix}, headers
        )

    def _asked(self, call: Call, top: TopLevel, target: Target, wire_format: WireFormat) -> int | None:
        endpoint = target.endpoints.get(wire_format)
        if endpoint is None:
            return None
        changes: dict[str, bytes | None] = {name: None for name in _NOT_COUNTED if name in top}
        if "model" in top:
            changes["model"] = msgspec.json.encode(target.model)
        request = requests.build(
            _counter(endpoint),
            model=target.model,
            body=splice(top, changes) if changes else top.body,
            client_headers=call.client_headers,
            deadlines=_DEADLINES,
        )
        try:
            response = self._send(request)
            try:
                if response.status != 200:
                    return None
                body = read_all(response, _DEADLINES.total_s, _MAX_ANSWER, self._now)
            finally:
                response.close()
        except OmniRouteError as error:
            log.info("the token counter of %s failed: %s", target.provider.prefix, error.error_code)
            return None
        return _number(body, _MEMBERS[wire_format])

    def _local(self, call: Call, top: TopLevel, target: Target | None) -> int:
        dialect = DIALECTS[call.surface]
        pause = Slices(self._now)
        request: Request = dialect.parse_request(top.body, pause)
        if target is None:
            return count(request, model="", wire_format=dialect.format, pause=pause)
        spoken = preferred_format(target.provider, target.endpoints) or dialect.format
        return count(request, model=target.model, wire_format=spoken, pause=pause, exactly=self._exactly)


def _counter(endpoint: Endpoint) -> Endpoint:
    """Return the address that counts, beside the one that answers."""
    if endpoint.format is WireFormat.GEMINI:
        return replace(endpoint, url=endpoint.url.replace(":generateContent", ":countTokens"))
    return replace(endpoint, url=endpoint.url + "/count_tokens")


def _number(body: bytes, member: str) -> int | None:
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    value = found.get(member) if isinstance(found, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _answer(body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(200, {"Content-Type": "application/json", **(headers or {})}, msgspec.json.encode(body))
