"""`omniroute quota`: what is left of the providers' quotas and credit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from omniroute.cli.client import Refusal
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import seconds_until, span, span_until

_PATH: Final = "/api/usage/quota"
_COLUMNS: Final = {
    "connection": "Connection",
    "plan": "Plan",
    "window": "Window",
    "used": "Used",
    "left": "Left",
    "resets": "Resets in",
    "read": "Read",
}
_WATCHED_EVERY_S: Final = 5.0
_UNITS_OF_MONEY: Final = {"usd": "$", "cny": "¥"}
_GONE: Final = 404


@click.command("quota")
@click.option("--provider", metavar="NAME", help="Only this provider.")
@click.option("--refresh", is_flag=True, help="Ask the providers first.")
@click.option("--watch", is_flag=True, help="Show it again every five seconds, until interrupted.")
@pass_session
def command(session: Session, *, provider: str | None, refresh: bool, watch: bool) -> None:
    """Show what is left of the providers' quotas and credit, when it comes again, and when that was read."""
    known = session.api.get(_PATH, provider=provider)["quotas"]
    _show(session, _asked(session, known) if refresh else known)
    while watch:
        time.sleep(_WATCHED_EVERY_S)
        known = session.api.get(_PATH, provider=provider)["quotas"]
        if session.form is Form.TABLE:
            click.clear()
        _show(session, known)


def _asked(session: Session, known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Have the provider of each connection asked now, and return what is known then."""
    found = []
    with session.progress("Asking the providers") as tell:
        for number, quota in enumerate(known):
            tell(number, len(known))
            found.append(_live(session, quota) if quota["hasReport"] else quota)
    return found


def _live(session: Session, quota: dict[str, Any]) -> dict[str, Any]:
    try:
        live: dict[str, Any] = session.api.get(f"/api/usage/{quota['connectionId']}")["quota"]
    except Refusal as error:
        if error.status != _GONE:
            raise
        return quota  # somebody has just removed the connection
    return live


def _show(session: Session, quotas: Sequence[Mapping[str, Any]]) -> None:
    if session.form in (Form.JSON, Form.JSONL):
        session.print_rows("quotas", quotas, _COLUMNS)
    else:
        session.print_rows("quotas", list(_rows(quotas, datetime.now(UTC))), _COLUMNS)
    for quota in quotas:
        if quota.get("problem") is not None:
            session.notice(f"{quota['connectionName']}: {quota['problem']}")


def _rows(quotas: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[dict[str, Any]]:
    for quota in quotas:
        row: dict[str, Any] = {"connection": quota["connectionName"], "plan": quota["plan"]}
        if not quota["windows"]:
            yield {**row, "window": None}
        for window in quota["windows"]:
            used = window["usedPercent"]
            read_ago = -(seconds_until(window["readAt"], now) or 0.0)
            yield {
                **row,
                "window": window["name"],
                "used": None if used is None else f"{used:.0f}%",
                "left": _left(window["remaining"], window["unit"], used),
                "resets": span_until(window["resetsAt"], now),
                "read": f"{span(read_ago)} ago" + (", stale" if window["stale"] else ""),
            }


def _left(remaining: float | None, unit: str | None, used: float | None) -> str | None:
    if remaining is None:
        return None if used is None else f"{max(0.0, 100 - used):.0f}%"
    if unit in _UNITS_OF_MONEY:
        return f"{_UNITS_OF_MONEY[unit]}{remaining:,.2f}"
    return f"{remaining:,.0f} {unit or ''}".strip()
