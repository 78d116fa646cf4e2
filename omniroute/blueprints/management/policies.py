"""`/api/policies`: addresses that are locked out after failed logins and guessed keys."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Time, operation
from omniroute.blueprints.management.bodies import Fields, answer, iso_time, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.locked import LockedAddress

blueprint = Blueprint("management_policies", __name__)

_CHANGE: Final = Fields(
    text("action", required=True, choices=("unlock",)), text("identifier", required=True, max_length=100)
)


class LockedAddressDocument(TypedDict):
    """An address, or the network of an IPv6 one, that is locked out."""

    identifier: str
    kind: str
    failures: int
    since: Time
    until: Time


class PoliciesDocument(TypedDict):
    """Who is locked out now."""

    locked: list[LockedAddressDocument]
    total: int


class UnlockedDocument(TypedDict):
    """Who may try again."""

    success: bool
    identifier: str


@blueprint.get("/api/policies")
@operation(PoliciesDocument)
def index() -> Response:
    """List who is locked out."""
    rows = [shown(one) for one in container().locked_out.all()]
    return answer(PoliciesDocument(locked=rows, total=len(rows)))


@blueprint.post("/api/policies")
@operation(UnlockedDocument, body=_CHANGE, refusals=(404,))
def change() -> Response:
    """Let an address try again before its time."""
    identifier = _CHANGE.read(request)["identifier"]
    container().locked_out.unlock(identifier, origin())
    return answer(UnlockedDocument(success=True, identifier=identifier))


def shown(one: LockedAddress) -> LockedAddressDocument:
    """Return a locked address as management answers show it."""
    return {
        "identifier": one.identifier,
        "kind": "address",
        "failures": one.failures,
        "since": iso_time(one.since),
        "until": iso_time(one.until),
    }
