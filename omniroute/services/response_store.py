"""Responses that a client refers back to by id (`previous_response_id`, `GET /v1/responses/{id}`).

Two kinds of ids. One that a provider issued belongs to the connection it came from: requests that name it go there. One
that the gateway issued, for an answer that it translated, is kept here with its turn: encrypted, for a day, only for
the API key that owns it, within a bound per key. `store: false` leaves nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from omniroute.errors import NotFound
from omniroute.secret import Secret
from omniroute.storage.database import Database
from omniroute.storage.repositories import conversations
from omniroute.storage.repositories.conversations import Issued, Origin
from omniroute.storage.secrets import Cipher

KEPT_S: Final = 24 * 3600.0
ORIGIN_KEPT_S: Final = 30 * 24 * 3600.0
"""As long as the best known provider keeps its own responses."""
MOST_BYTES_PER_KEY: Final = 64 << 20
_MOST_TURNS: Final = 1000
_MAX_ID: Final = 200
_TABLE: Final = "issued_responses"


class ResponseStore:
    """Keeps and finds responses by id and owner."""

    def __init__(self, *, database: Database, cipher: Cipher, now: Callable[[], float]) -> None:
        """`now` is the time of day in epoch seconds."""
        self._database = database
        self._cipher = cipher
        self._now = now

    def keep(self, owner: str, response_id: str, *, previous_id: str | None, items: bytes, response: bytes) -> None:
        """Store an answer that the gateway issued `response_id` for.

        Args:
            owner: what the usage of the caller is booked under, as a rule the id of its API key.
            response_id: the id, which nobody else has.
            previous_id: the response that the request continued.
            items: this turn's input and output, as `formats.openai_responses.history` writes them.
            response: the response object.
        """
        now = self._now()
        issued = Issued(
            id=response_id,
            api_key_id=owner,
            previous_id=previous_id,
            items_enc=self._sealed(items, "items_enc", response_id),
            response_enc=self._sealed(response, "response_enc", response_id),
            bytes=len(items) + len(response),
            created_at=now,
            expires_at=now + KEPT_S,
        )

        def work(sql: Any) -> None:
            conversations.insert(sql, issued)
            conversations.drop_oldest(sql, owner, MOST_BYTES_PER_KEY)

        self._database.write(work)

    def conversation(self, owner: str, response_id: str) -> list[bytes] | None:
        """Return the turns up to a response, oldest first; None when this owner has no such response here."""
        if len(response_id) > _MAX_ID:
            return None
        now = self._now()
        rows = self._database.read(lambda sql: conversations.chain(sql, response_id, owner, now, _MOST_TURNS))
        if not rows or rows[0].previous_id is not None:
            return None  # an earlier turn is gone: half a conversation would mislead the model
        return [self._opened(row.items_enc, "items_enc", row.id) for row in rows]

    def response(self, owner: str, response_id: str) -> bytes | None:
        """Return the response object, None when this owner has no such response here."""
        row = self._row(owner, response_id)
        return None if row is None else self._opened(row.response_enc, "response_enc", row.id)

    def items(self, owner: str, response_id: str) -> bytes | None:
        """Return one turn, None when this owner has no such response here."""
        row = self._row(owner, response_id)
        return None if row is None else self._opened(row.items_enc, "items_enc", row.id)

    def delete(self, owner: str, response_id: str) -> None:
        """Remove a response.

        Raises:
            NotFound: this owner has no such response here.
        """
        if not self._database.write(lambda sql: conversations.delete(sql, response_id, owner)):
            raise NotFound(f"There is no response with the id {response_id[:100]!r}.")

    def keep_origin(self, owner: str, response_id: str, *, connection_id: str, provider: str, model: str) -> None:
        """Remember which connection issued an id."""
        if not response_id or len(response_id) > _MAX_ID:
            return
        origin = Origin(response_id, owner, connection_id, provider, model, self._now() + ORIGIN_KEPT_S)
        self._database.write(lambda sql: conversations.put_origin(sql, origin))

    def origin(self, owner: str, response_id: str) -> Origin | None:
        """Return where an id came from, None when this owner never got it."""
        if len(response_id) > _MAX_ID:
            return None
        now = self._now()
        return self._database.read(lambda sql: conversations.get_origin(sql, response_id, owner, now))

    def forget_origin(self, owner: str, response_id: str) -> None:
        """Forget an id that its provider has deleted."""
        self._database.write(lambda sql: conversations.delete_origin(sql, response_id, owner))

    def _row(self, owner: str, response_id: str) -> Issued | None:
        if len(response_id) > _MAX_ID:
            return None
        now = self._now()
        return self._database.read(lambda sql: conversations.get(sql, response_id, owner, now))

    def _sealed(self, data: bytes, column: str, row_id: str) -> str:
        return self._cipher.encrypt(Secret(data.decode()), table=_TABLE, column=column, row_id=row_id)

    def _opened(self, text: str, column: str, row_id: str) -> bytes:
        return self._cipher.decrypt(text, table=_TABLE, column=column, row_id=row_id).reveal().encode()
