"""Responses by id after they were made: show, delete, cancel, list what led to them; and compacting a conversation.

What the gateway issued is served from its own store. What a provider issued is asked of the connection that issued it,
and its answer is passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from omniroute.errors import CallerError, MissingField, NotFound, UnsupportedFeature
from omniroute.formats.splice import scan, splice
from omniroute.formats.wire import WireFormat
from omniroute.gateway.admitted import admitted_targets
from omniroute.gateway.directory import Target
from omniroute.gateway.driver import error_of_answer, read_all
from omniroute.gateway.handover import Answer, Call
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.response_state import ResponseStore, listed_items
from omniroute.providers import requests
from omniroute.providers.requests import Endpoint
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.services.access import Caller

_MAX_ANSWER: Final = 64 << 20
_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=60.0, content_s=60.0, idle_s=60.0, total_s=120.0)
_COMPACTING: Final = Deadlines(connect_s=10.0, headers_s=600.0, content_s=600.0, idle_s=600.0, total_s=600.0)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a provider keeps a response, and the model that it was made with."""

    endpoint: Endpoint
    target: Target


class StoredResponses:
    """Serves the sub-paths of `/v1/responses`."""

    def __init__(
        self,
        *,
        store: ResponseStore,
        resolve: Callable[[str], Sequence[Target]],
        send: Callable[[UpstreamRequest], UpstreamResponse],
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`now` is a monotonic clock, `wall` the time of day, both in seconds."""
        self._store = store
        self._resolve = resolve
        self._send = send
        self._now = now
        self._wall = wall

    def show(self, caller: Caller, response_id: str, query: Mapping[str, str]) -> Answer:
        """Answer `GET /v1/responses/{id}`.

        Raises:
            NotFound: this caller has no such response.
        """
        stored = self._store.response(_owner(caller), response_id)
        if stored is not None:
            return _json(stored)
        return self._forward("GET", caller, response_id, "", query)

    def delete(self, caller: Caller, response_id: str) -> Answer:
        """Answer `DELETE /v1/responses/{id}`.

        Raises:
            NotFound: this caller has no such response.
        """
        owner = _owner(caller)
        if self._store.response(owner, response_id) is not None:
            self._store.delete(owner, response_id)
            return _json(msgspec.json.encode({"id": response_id, "object": "response", "deleted": True}))
        answer = self._forward("DELETE", caller, response_id, "", {})
        if answer.status < 300:
            self._store.forget_origin(owner, response_id)
        return answer

    def cancel(self, caller: Caller, response_id: str) -> Answer:
        """Answer `POST /v1/responses/{id}/cancel`.

        Raises:
            NotFound: this caller has no such response.
            CallerError: it was not made in the background, so there is nothing to cancel.
        """
        if self._store.response(_owner(caller), response_id) is not None:
            raise CallerError("Only a response that runs in the background can be cancelled; this one is complete.")
        return self._forward("POST", caller, response_id, "/cancel", {})

    def input_items(self, caller: Caller, response_id: str, query: Mapping[str, str]) -> Answer:
        """Answer `GET /v1/responses/{id}/input_items`.

        Raises:
            NotFound: this caller has no such response.
        """
        turns = self._store.conversation(_owner(caller), response_id)
        if turns is not None:
            return _json(listed_items(turns, query))
        return self._forward("GET", caller, response_id, "/input_items", query)

    def compact(self, call: Call) -> Answer:
        """Answer `POST /v1/responses/compact`: the provider's own, for providers that have it.

        Raises:
            UnsupportedFeature: the model's provider does not speak this protocol.
        """
        top = scan(call.body, acted_on=frozenset({"model"}))
        model = top.value("model")
        if not isinstance(model, str) or not model:
            raise MissingField("The field 'model' is required.", param="model")
        targets = admitted_targets(call.caller, model, self._resolve)
        for target in targets:
            endpoint = target.endpoints.get(WireFormat.OPENAI_RESPONSES)
            if endpoint is not None:
                body = splice(top, {"model": msgspec.json.encode(target.model)})
                return self._ask("POST", _Place(endpoint, target), "/compact", body, _COMPACTING)
        raise UnsupportedFeature(
            f"{targets[0].provider.name} does not speak the Responses protocol, which compacting belongs to.",
            param="model",
        )

    def _forward(self, method: str, caller: Caller, response_id: str, tail: str, query: Mapping[str, str]) -> Answer:
        origin = self._store.origin(_owner(caller), response_id)
        if origin is None:
            raise NotFound(f"There is no response with the id {response_id[:100]!r}.", param="response_id")
        targets = [
            target
            for target in self._resolve(f"{origin.provider}/{origin.model}")
            if target.connection_id == origin.connection_id and WireFormat.OPENAI_RESPONSES in target.endpoints
        ]
        if not targets:
            raise CallerError(
                "The connection that issued this response does not exist any more.",
                status=409,
                code="response_origin_gone",
            )
        path = f"/{quote(response_id, safe='')}{tail}"
        if query:
            path += "?" + urlencode(query)
        place = _Place(targets[0].endpoints[WireFormat.OPENAI_RESPONSES], targets[0])
        return self._ask(method, place, path, b"", _DEADLINES)

    def _ask(self, method: str, place: _Place, path: str, body: bytes, deadlines: Deadlines) -> Answer:
        endpoint = replace(place.endpoint, url=place.endpoint.url + path)
        request = replace(
            requests.build(endpoint, model=place.target.model, body=body, deadlines=deadlines), method=method
        )
        response = self._send(request)
        try:
            data = read_all(response, deadlines.total_s, _MAX_ANSWER, self._now)
        finally:
            response.close()
        if response.status >= 300:
            raise error_of_answer(response, data, endpoint, place.target, self._wall())
        return _json(data, response.status)


def _owner(caller: Caller) -> str:
    return caller.key_id or ""


def _json(body: bytes, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, body)
