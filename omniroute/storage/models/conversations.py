"""Tables that keep what a stateful protocol refers back to: responses by id."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from omniroute.storage.models.base import Epoch, Model, TextKey, Whole, Words


class IssuedResponse(Model):
    """One answer that the gateway issued an id for, with the turn that led to it: what a later request can refer to."""

    __tablename__ = "issued_responses"
    __table_args__ = (Index(None, "expires_at"), Index(None, "api_key_id"))

    id: Mapped[TextKey]
    api_key_id: Mapped[Words]
    """The owner; '' for callers without a key."""
    previous_id: Mapped[Words | None]
    items_enc: Mapped[Words]
    """This turn's items alone; earlier ones stand in the rows that `previous_id` leads to."""
    response_enc: Mapped[Words]
    bytes: Mapped[Whole] = mapped_column()
    created_at: Mapped[Epoch]
    expires_at: Mapped[Epoch]


class ResponseOrigin(Model):
    """Which connection issued an id, so that a request with that id goes back there."""

    __tablename__ = "response_origins"
    __table_args__ = (Index(None, "expires_at"),)

    id: Mapped[TextKey]
    api_key_id: Mapped[TextKey]
    connection_id: Mapped[Words]
    provider: Mapped[Words]
    model: Mapped[Words]
    expires_at: Mapped[Epoch]
