"""`/api/providers/{id}/models`: the models of one connection, and the reading of its provider's list."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints import guard
from omniroute.blueprints.contract import ListDocument, Query, Time, operation
from omniroute.blueprints.management.bodies import Page, answer, iso_time, query_flag
from omniroute.blueprints.management.models import ModelFactsDocument, facts
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import PermissionDenied
from omniroute.services.access import Power

blueprint = Blueprint("management_connection_models", __name__)

_MOST: Final = 5000
_USUAL: Final = 200


class ConnectionModelDocument(ModelFactsDocument):
    """A model of a connection; `listed` says whether the provider's own list has it for this one."""

    listed: bool
    firstSeenAt: Time | None
    lastSeenAt: Time | None


class ModelSyncDocument(TypedDict):
    """How the last reading of a connection's model list went."""

    triedAt: Time
    syncedAt: Time | None
    found: int | None
    error: str | None


class ConnectionModelsDocument(ListDocument):
    """A page of the models of a connection; `sync` is null before the first reading."""

    models: list[ConnectionModelDocument]
    sync: ModelSyncDocument | None


class SyncedModelsDocument(TypedDict):
    """What a reading changed, and how many models the list has now."""

    added: int
    removed: int
    total: int


@blueprint.get("/api/providers/<connection_id>/models")
@operation(
    ConnectionModelsDocument,
    query=(
        Query("limit", "How many rows at most; 200 unless given.", "integer", minimum=1, maximum=_MOST),
        Query("offset", "How many rows to leave out before.", "integer", minimum=0, maximum=10**9),
        Query("refresh", "Read the provider's list first; needs scope admin.", "boolean"),
    ),
    refusals=(400, 404, 502),
)
def index(connection_id: str) -> Response:
    """List the models of a connection: its provider's, but for what its own list is known to lack."""
    page = Page.read(request, default=_USUAL, maximum=_MOST)
    own = container()
    if query_flag(request, "refresh"):
        _require_admin()
        own.model_lists.sync(connection_id, origin())
    found = own.model_catalog.of_connection(own.connections.get(connection_id))
    seen = own.model_lists.seen_at(connection_id)
    rows: list[ConnectionModelDocument] = []
    for one in page.cut(found):
        first, last = seen.get(one.row.model.id, (None, None))
        rows.append(
            {
                **facts(one.row),
                "listed": one.is_listed,
                "firstSeenAt": iso_time(first),
                "lastSeenAt": iso_time(last),
            }
        )
    body = ConnectionModelsDocument(
        models=rows, sync=_sync(connection_id), total=len(found), limit=page.limit, offset=page.offset
    )
    return answer(body, headers={"X-Total-Count": str(len(found))})


@blueprint.post("/api/providers/<connection_id>/sync-models")
@operation(SyncedModelsDocument, refusals=(400, 404, 502))
def sync(connection_id: str) -> Response:
    """Read the provider's model list for a connection now.

    A reading that fails, or finds nothing for once, leaves what is known as it is.
    """
    found = container().model_lists.sync(connection_id, origin())
    return answer(SyncedModelsDocument(added=found.added, removed=found.removed, total=found.total))


def _sync(connection_id: str) -> ModelSyncDocument | None:
    last = container().model_lists.last(connection_id)
    if last is None:
        return None
    return {
        "triedAt": iso_time(last.tried_at),
        "syncedAt": iso_time(last.synced_at),
        "found": last.found,
        "error": last.error,
    }


def _require_admin() -> None:
    actor = guard.actor()
    if actor.power < Power.ADMIN:
        held = actor.power.name.lower()
        raise PermissionDenied(
            f"This credential has scope '{held}'; reading the list anew needs 'admin'.",
            code="scope_insufficient",
            extras={"held": held, "required": "admin"},
        )
