"""`/api/settings/ip-filter`: who may reach the server, by address."""

from __future__ import annotations

from typing import Final, TypedDict

from flask import Blueprint, Response, request

from omniroute.blueprints.contract import Time, operation
from omniroute.blueprints.management.auth import visitor
from omniroute.blueprints.management.bodies import Fields, answer, flag, integer, iso_time, moment, objects, text, texts
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.ip_filter import LONGEST_BAN_S, MOST_BANS, MOST_ENTRIES, Ban, FilterState, Mode

blueprint = Blueprint("management_ip_filter", __name__)

_BAN: Final = Fields(
    text("address", alias="cidr", required=True, max_length=64),
    moment("until"),
    integer("minutes", minimum=1, maximum=LONGEST_BAN_S // 60),
    text("reason", nullable=True, max_length=200),
)
_CHANGE: Final = Fields(
    flag("enabled"),
    text("mode", choices=Mode),
    texts("list", max_items=MOST_ENTRIES, max_length=64),
    objects("tempBans", _BAN, max_items=MOST_BANS),
    flag("force"),
)


class BanDocument(TypedDict):
    """An address or network that is kept out for a while."""

    address: str
    until: Time
    reason: str | None
    createdAt: Time | None


class IpFilterDocument(TypedDict):
    """The filter. `list` is that of the mode: who is kept out, or who is let in. Callers on this host always pass."""

    enabled: bool
    mode: Mode
    list: list[str]
    tempBans: list[BanDocument]


@blueprint.get("/api/settings/ip-filter")
@operation(IpFilterDocument)
def show() -> Response:
    """Show the filter."""
    return answer(shown(container().ip_filter.state()))


@blueprint.route("/api/settings/ip-filter", methods=["PUT", "PATCH"])
@operation(IpFilterDocument, body=_CHANGE, refusals=(409,))
def change() -> Response:
    """Change the given parts, each of them whole.

    A change that would keep the caller out is refused with `would_lock_out`, unless it says `force`.
    """
    given = _CHANGE.read(request)
    is_forced = given.pop("force", False)
    state = container().ip_filter.change(given, origin(), is_local=visitor().is_local, is_forced=is_forced)
    return answer(shown(state))


def shown(state: FilterState) -> IpFilterDocument:
    """Return the filter as management answers show it."""
    return {
        "enabled": state.is_enabled,
        "mode": state.mode,
        "list": list(state.entries),
        "tempBans": [_shown_ban(ban) for ban in state.bans],
    }


def _shown_ban(ban: Ban) -> BanDocument:
    return {
        "address": ban.cidr,
        "until": iso_time(ban.until),
        "reason": ban.reason,
        "createdAt": iso_time(ban.created_at or None),
    }
