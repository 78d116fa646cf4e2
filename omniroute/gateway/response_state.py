"""What the Responses protocol keeps between requests: continuing by id, and asking for a response again.

An id that the gateway issued stands for a conversation in our own store: a request that names it is expanded before it
is planned, so that any target can serve it. An id that a provider issued pins the request to that connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from omniroute.errors import CallerError, InvalidRequest, NotFound, StorageError
from omniroute.formats.openai_responses import history
from omniroute.formats.splice import TopLevel, scan
from omniroute.gateway.directory import Target

log = logging.getLogger(__name__)

_ID: Final = msgspec.json.Decoder(type=dict[str, msgspec.Raw])


class Origin(Protocol):
    """Which connection issued an id."""

    @property
    def connection_id(self) -> str:
        """The connection."""
        ...

    @property
    def provider(self) -> str:
        """Its provider's id."""
        ...

    @property
    def model(self) -> str:
        """The model that answered."""
        ...


class ResponseStore(Protocol):
    """Where responses are kept by id and owner; see `services.response_store`."""

    def keep(self, owner: str, response_id: str, *, previous_id: str | None, items: bytes, response: bytes) -> None:
        """Store an answer that the gateway issued an id for."""
        ...

    def conversation(self, owner: str, response_id: str) -> list[bytes] | None:
        """Return the turns up to a response, oldest first."""
        ...

    def response(self, owner: str, response_id: str) -> bytes | None:
        """Return the response object."""
        ...

    def items(self, owner: str, response_id: str) -> bytes | None:
        """Return one turn."""
        ...

    def delete(self, owner: str, response_id: str) -> None:
        """Remove a response; NotFound when there is none."""
        ...

    def keep_origin(self, owner: str, response_id: str, *, connection_id: str, provider: str, model: str) -> None:
        """Remember which connection issued an id."""
        ...

    def origin(self, owner: str, response_id: str) -> Origin | None:
        """Return where an id came from."""
        ...

    def forget_origin(self, owner: str, response_id: str) -> None:
        """Forget an id that its provider has deleted."""
        ...


class NoResponses:
    """Keeps nothing: every id is unknown."""

    def keep(self, owner: str, response_id: str, *, previous_id: str | None, items: bytes, response: bytes) -> None:
        """Forget it."""

    def conversation(self, owner: str, response_id: str) -> list[bytes] | None:
        """Know none."""
        return None

    def response(self, owner: str, response_id: str) -> bytes | None:
        """Know none."""
        return None

    def items(self, owner: str, response_id: str) -> bytes | None:
        """Know none."""
        return None

    def delete(self, owner: str, response_id: str) -> None:
        """Know none."""
        raise NotFound

    def keep_origin(self, owner: str, response_id: str, *, connection_id: str, provider: str, model: str) -> None:
        """Forget it."""

    def origin(self, owner: str, response_id: str) -> Origin | None:
        """Know none."""
        return None

    def forget_origin(self, owner: str, response_id: str) -> None:
        """Know none."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A request with its conversation.

    Attributes:
        top: the body to serve.
        turn: the body without the earlier turns.
        previous_id: the response that it goes on from.
        pinned_to: where that came from, if a provider issued it: no other connection can serve the request.
    """

    top: TopLevel
    turn: bytes
    previous_id: str | None = None
    pinned_to: Origin | None = None


def resume(top: TopLevel, owner: str, store: ResponseStore, acted_on: frozenset[str]) -> Resumed:
    """Read what a Responses request continues.

    Raises:
        NotFound: this caller never got such an id, or it has expired.
    """
    top = _with_items(top, owner, store, acted_on)
    previous = top.value("previous_response_id")
    if previous is None:
        return Resumed(top, top.body)
    if not isinstance(previous, str) or not previous:
        raise InvalidRequest("'previous_response_id' must be a string.", param="previous_response_id")
    turns = store.conversation(owner, previous)
    if turns is not None:
        return Resumed(scan(history.expand(top.body, turns), acted_on=acted_on), top.body, previous)
    origin = store.origin(owner, previous)
    if origin is not None:
        return Resumed(top, top.body, previous, origin)
    raise NotFound(
        f"There is no response with the id {previous[:100]!r} to continue: it is unknown, has expired (after 24 hours) "
        "or belongs to another API key. Send the whole conversation as 'input' instead.",
        param="previous_response_id",
    )


def _with_items(top: TopLevel, owner: str, store: ResponseStore, acted_on: frozenset[str]) -> TopLevel:
    """Put the items of our own answers where a request only refers to them; a provider's it knows itself.

    Raises:
        NotFound: an item is ours by its id, but not this caller's, or not any more.
    """
    found: dict[str, bytes] = {}
    for item_id in history.referenced_ids(top.body):
        response_id = history.response_id_of(item_id)
        if response_id is None:
            continue
        turn = store.items(owner, response_id)
        item = None if turn is None else history.find_item(turn, item_id)
        if item is None:
            raise NotFound(f"There is no item with the id {item_id[:100]!r}.", param="input")
        found[item_id] = item
    return scan(history.resolve(top.body, found), acted_on=acted_on) if found else top


def origin_gone() -> CallerError:
    """Return the error of a request whose id belongs to a connection that cannot serve it (any more)."""
    return CallerError(
        "'previous_response_id' was issued by a connection that the requested model is not on (any more). Send the "
        "whole conversation as 'input' instead.",
        status=409,
        code="response_origin_gone",
        param="previous_response_id",
    )


def pin_gone(connection_id: str) -> CallerError:
    """Return the error of a request that asks for a connection which does not serve its model."""
    return CallerError(
        f"The connection {connection_id[:100]!r} of 'X-OmniRoute-Connection' does not serve this model for this key.",
        code="connection_not_usable",
    )


def keep_issued(store: ResponseStore, owner: str, previous_id: str | None, turn: bytes) -> Callable[[bytes], None]:
    """Return what stores a rendered response object; `turn` is the request's body as the client sent it."""

    def keep(response: bytes) -> None:
        response_id = msgspec.json.decode(_ID.decode(response)["id"])
        items = history.stored_items(turn, response)
        with _unharmed("response"):
            store.keep(owner, response_id, previous_id=previous_id, items=items, response=response)

    return keep


def keep_issuer(store: ResponseStore, owner: str) -> Callable[[str, Target], None]:
    """Return what remembers which connection issued an id."""

    def keep(response_id: str, target: Target) -> None:
        with _unharmed("origin of a response"):
            store.keep_origin(
                owner,
                response_id,
                connection_id=target.connection_id,
                provider=target.provider.id,
                model=target.model,
            )

    return keep


@contextmanager
def _unharmed(what: str) -> Iterator[None]:
    """Let an answer reach its client although it cannot be kept: it is there and paid for."""
    try:
        yield
    except StorageError:
        log.warning("the %s could not be kept; it cannot be referred to", what)


def listed_items(turns: Sequence[bytes], response_id: str, query: Mapping[str, str]) -> bytes:
    """Return the input items of a response as `GET /v1/responses/{id}/input_items` lists them.

    Raises:
        InvalidRequest: a limit, order or place that there is not.
    """
    return history.input_items(
        turns,
        response_id,
        limit=_limit(query.get("limit")),
        order=query.get("order", "desc"),
        after=query.get("after"),
    )


def _limit(given: str | None) -> int:
    if given is None:
        return 20
    if not (given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= 100):
        raise InvalidRequest("'limit' must be a whole number from 1 to 100.", param="limit")
    return int(given)
