"""How many tokens a request has: the provider's word where it counts in the client's format, ours otherwise.

Asked are the vendors of a format, and nodes that an operator has declared to speak it. A node without a counter is left
alone for a while, and so is one that fails, so that counting never costs more than one such wait.

Never an error for a provider's failure: a client that counts before it sends must not be stopped by the count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from omniroute.errors import InvalidRequest, MissingField, OmniRouteError
from omniroute.formats.canonical import Request
from omniroute.formats.splice import TopLevel, scan, splice
from omniroute.formats.token_count import TextCounter, count
from omniroute.formats.wire import WireFormat
from omniroute.gateway.answers import in_ascii, read_all
from omniroute.gateway.dialects import DIALECTS, Surface
from omniroute.gateway.directory import Target
from omniroute.gateway.handover import Answer, Call
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.slices import Slices
from omniroute.providers import requests
from omniroute.providers.profiles import is_vendor, preferred_format
from omniroute.providers.requests import Endpoint
from omniroute.providers.upstream import Deadlines, UpstreamRequest, on_behalf
from omniroute.services.access import Caller

log = logging.getLogger(__name__)

_MAX_ANSWER: Final = 1 << 20
_DEADLINES: Final = Deadlines(connect_s=5.0, headers_s=10.0, content_s=10.0, idle_s=10.0, total_s=15.0)
_MEMBERS: Final = {WireFormat.ANTHROPIC_MESSAGES: "input_tokens", WireFormat.GEMINI: "totalTokens"}
_WITHOUT_COUNTER: Final = frozenset({404, 405, 501})
_LEFT_ALONE_S: Final = 900.0
"""How long a node without a counter is not asked again; it may learn to count with its next release."""
_RESTS_S: Final = 60.0
"""How long a counter that failed is not asked again."""
_NO_MODEL: Final = "-"
"""Stands for the model where none is named: every request of the format has one."""
_NOT_COUNTED: Final = ("stream", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "metadata")
"""What clients may send along and the vendor's counter refuses."""


class Counting:
    """Counts the tokens of requests in the formats that have an endpoint for it."""

    def __init__(
        self,
        *,
        targets: Callable[[Caller, str, str | None], Sequence[Target]],
        send: Callable[[UpstreamRequest], UpstreamResponse],
        now: Callable[[], float],
        exactly: TextCounter,
    ) -> None:
        """`targets` takes the caller, a model name, and the only provider if the path names one.

        `now` is a monotonic clock in seconds; `exactly` counts texts of models whose vocabulary is known.
        """
        self._exactly = exactly
        self._resting: dict[str, float] = {}
        self._targets = targets
        self._send = send
        self._now = now

    def messages(self, call: Call) -> Answer:
        """Answer `POST /v1/messages/count_tokens`: `{input_tokens, source, model?, provider?}`.

        Raises:
            OmniRouteError: the body is not a request, or the caller may not use the model.
        """
        acted_on = DIALECTS[Surface.ANTHROPIC_MESSAGES].acted_on
        top = scan(call.body, acted_on=acted_on, pause=Slices(self._now))
        model = top.value("model")
        if "messages" not in top:
            raise MissingField("The field 'messages' is required.", param="messages")
        if _is_empty_list(top, "messages"):
            raise InvalidRequest("'messages' must hold at least one message.", param="messages")
        if model is None and call.provider is None:
            return _answer({"input_tokens": self._local(call, top, None), "source": "local"})
        if not isinstance(model, str) or not model:
            raise InvalidRequest("'model' must be a non-empty string.", param="model")
        return self._count(call, top, model, WireFormat.ANTHROPIC_MESSAGES)

    def gemini(self, call: Call) -> Answer:
        """Answer `POST /v1beta/models/{model}:countTokens`: `{totalTokens}`.

        Raises:
            OmniRouteError: the body is not a request, or the caller may not use the model.
        """
        pause = Slices(self._now)
        top = scan(call.body, pause=pause)
        wrapped = top.spans.get("generateContentRequest") or top.spans.get("generate_content_request")
        if wrapped is not None:  # a whole request may stand inside
            call = replace(call, body=call.body[wrapped[0] : wrapped[1]])
            top = scan(call.body, pause=pause)
        if "contents" not in top:
            raise MissingField("The field 'contents' is required.", param="contents")
        return self._count(call, top, call.model or "", WireFormat.GEMINI)

    def _count(self, call: Call, top: TopLevel, model: str, wire_format: WireFormat) -> Answer:
        targets = self._targets(call.caller, model, call.provider)
        member = _MEMBERS[wire_format]
        first = targets[0]
        told = self._told(call, top, first, wire_format)
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

    def _told(self, call: Call, top: TopLevel, target: Target, wire_format: WireFormat) -> int | None:
        """Return the provider's count; None where it has none to give."""
        endpoint = target.endpoints.get(wire_format)
        if endpoint is None or not (target.provider.is_operator or is_vendor(target.provider, wire_format)):
            return None
        if self._now() < self._resting.get(endpoint.url, 0.0):
            return None
        counted, rest_s = None, _RESTS_S
        try:
            status, body = self._asked(call, _counter(endpoint), target, _counted_body(top, target, wire_format))
            match status:
                case 200:
                    counted = _number(body, _MEMBERS[wire_format])
                case _ if status in _WITHOUT_COUNTER:
                    rest_s = _LEFT_ALONE_S
                case _ if status < 500:
                    return None  # about this request, which says nothing about the next one
        except OmniRouteError as error:
            log.info("the token counter of %s failed: %s", target.provider.prefix, error.error_code)
        if counted is None:
            self._resting[endpoint.url] = self._now() + rest_s
        else:
            self._resting.pop(endpoint.url, None)
        return counted

    def _asked(self, call: Call, counter: Endpoint, target: Target, body: bytes) -> tuple[int, bytes]:
        request = requests.build(
            counter, model=target.model, body=body, client_headers=call.client_headers, deadlines=_DEADLINES
        )
        response = self._send(on_behalf(request, key=call.caller.key_id))
        try:
            return response.status, read_all(response, _DEADLINES.total_s, _MAX_ANSWER, self._now)
        finally:
            response.close()

    def _local(self, call: Call, top: TopLevel, target: Target | None) -> int:
        dialect = DIALECTS[call.surface]
        pause = Slices(self._now)
        if target is None:
            named = splice(top, {"model": msgspec.json.encode(_NO_MODEL)})
            return count(dialect.parse_request(named, pause), model=_NO_MODEL, wire_format=dialect.format, pause=pause)
        request: Request = dialect.parse_request(top.body, pause)
        spoken = preferred_format(target.provider, target.endpoints) or dialect.format
        return count(request, model=target.model, wire_format=spoken, pause=pause, exactly=self._exactly)


def _counted_body(top: TopLevel, target: Target, wire_format: WireFormat) -> bytes:
    """Return what the provider's counter is sent for a request."""
    if wire_format is WireFormat.GEMINI:
        if set(top.spans) <= {"contents"}:
            return top.body
        # Beside the contents everything has to stand in a whole request, which names its model by itself.
        name = msgspec.json.encode(f"models/{target.model}")
        return b'{"generateContentRequest":%b}' % splice(top, {"model": name})
    changes: dict[str, bytes | None] = {name: None for name in _NOT_COUNTED if name in top}
    changes["model"] = msgspec.json.encode(target.model)
    return splice(top, changes)


def _is_empty_list(top: TopLevel, member: str) -> bool:
    start, end = top.spans[member]
    return end - start < _LONGEST_EMPTY and top.value(member) == []  # a conversation is not parsed for this


_LONGEST_EMPTY: Final = 64


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
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _answer(body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(200, {"Content-Type": "application/json", **(headers or {})}, msgspec.json.encode(body))
