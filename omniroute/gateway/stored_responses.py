"""Responses by id after they were made: show, delete, cancel, list what led to them.

What the gateway issued is served from its own store. What a provider issued is asked of the connection that issued it,
and its answer is passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from omniroute.errors import CallerError, InvalidRequest, NotFound, OmniRouteError
from omniroute.formats.wire import WireFormat
from omniroute.gateway.answers import error_of_answer, read_all
from omniroute.gateway.directory import Target
from omniroute.gateway.handover import Answer
from omniroute.gateway.ports import UpstreamResponse
from omniroute.gateway.response_state import Origin, ResponseStore, listed_items
from omniroute.providers import requests
from omniroute.providers.upstream import Deadlines, UpstreamRequest, on_behalf
from omniroute.services.access import Caller

_MAX_ANSWER: Final = 64 << 20
_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=60.0, content_s=60.0, idle_s=60.0, total_s=120.0)
_PASSED_ON: Final = frozenset({"include", "include[]", "limit", "order", "after", "before"})
"""What a provider is told of the query. Anything else stays here: a client may have put its key there."""

Query = Sequence[tuple[str, str]]
"""Names and values in their order; a name may stand more than once."""


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

    def show(self, caller: Caller, response_id: str, query: Query) -> Answer:
        """Answer `GET /v1/responses/{id}`.

        Raises:
            NotFound: this caller has no such response.
            InvalidRequest: it is asked for as a stream.
        """
        if dict(query).get("stream", "false").lower() not in ("false", "0", ""):
            raise InvalidRequest(
                "A response is given back whole: it does not run in the background. Ask without 'stream'.",
                param="stream",
            )
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
        answer = self._forward("DELETE", caller, response_id, "", ())
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
        return self._forward("POST", caller, response_id, "/cancel", ())

    def input_items(self, caller: Caller, response_id: str, query: Query) -> Answer:
        """Answer `GET /v1/responses/{id}/input_items`.

        Raises:
            NotFound: this caller has no such response.
        """
        turns = self._store.conversation(_owner(caller), response_id)
        if turns is not None:
            return _json(listed_items(turns, response_id, dict(query)))
        return self._forward("GET", caller, response_id, "/input_items", query)

    def _forward(self, method: str, caller: Caller, response_id: str, tail: str, query: Query) -> Answer:
        origin = self._store.origin(_owner(caller), response_id)
        if origin is None:
            raise _unknown(response_id)
        target = self._target(origin)
        endpoint = target.endpoints[WireFormat.OPENAI_RESPONSES]
        asked = urlencode([(name, value) for name, value in query if name in _PASSED_ON])
        url = f"{endpoint.url}/{quote(response_id, safe='')}{tail}{'?' if asked else ''}{asked}"
        request = requests.build(replace(endpoint, url=url), model=target.model, body=b"", deadlines=_DEADLINES)
        response = self._send(on_behalf(replace(request, method=method), key=caller.key_id))
        try:
            data = read_all(response, _DEADLINES.total_s, _MAX_ANSWER, self._now)
        finally:
            response.close()
        if response.status == 404:
            raise _unknown(response_id)
        if response.status >= 300:
            raise error_of_answer(response, data, endpoint, target, self._wall())
        return _json(data, response.status)

    def _target(self, origin: Origin) -> Target:
        """Return the way to the connection that issued a response."""
        try:
            targets = self._resolve(f"{origin.provider}/{origin.model}")
        except OmniRouteError:  # neither the connection nor any other to that provider
            targets = ()
        for target in targets:
            if target.connection_id == origin.connection_id and WireFormat.OPENAI_RESPONSES in target.endpoints:
                return target
        raise CallerError(
            "The connection that issued this response does not exist any more.",
            status=409,
            code="response_origin_gone",
        )


def _unknown(response_id: str) -> NotFound:
    return NotFound(f"There is no response with the id {response_id[:100]!r}.", param="response_id")


def _owner(caller: Caller) -> str:
    return caller.key_id


def _json(body: bytes, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, body)
