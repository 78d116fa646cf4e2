"""`omniroute resilience`: what rests and why, and how that is ended early."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from omniroute.cli.finding import find_one
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import span_until

_COLUMNS: Final = {
    "kind": "Kind",
    "provider": "Provider",
    "connection": "Connection",
    "model": "Model",
    "state": "State",
    "reason": "Reason",
    "left": "Time left",
    "message": "Message",
}
_KINDS: Final = {"cooldowns": "cooldown", "dead": "dead", "lockouts": "lockout"}


def _scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--model", help="Only lockouts of this model.")(command)
    command = click.option("--connection", help="Only this connection, by its id or name.")(command)
    return click.option("--provider", help="Only this provider or node.")(command)


@click.group("resilience")
def command() -> None:
    """Show what rests and why, and end it early."""


@command.command("show")
@_scope_options
@pass_session
def show(session: Session, provider: str | None, connection: str | None, model: str | None) -> None:
    """Show breakers, cooldowns, dead connections and lockouts, with their reasons and the time left."""
    state = session.api.get("/api/resilience/state", **_scope(session, provider, connection, model))
    if session.form is Form.JSON:
        session.print_fields(state, {})
    else:
        session.print_rows("marks", list(_rows(state, datetime.now(UTC))), _COLUMNS)


@command.command("reset")
@_scope_options
@click.option("--all", "is_all", is_flag=True, help="Everything that rests.")
@pass_session
def reset(session: Session, *, provider: str | None, connection: str | None, model: str | None, is_all: bool) -> None:
    """End what rests; every worker follows within a second."""
    if is_all == any(given is not None for given in (provider, connection, model)):
        raise click.UsageError("Give --all, or what of --provider, --connection and --model is meant.")
    body = {"all": True} if is_all else _scope(session, provider, connection, model)
    found = session.api.send("POST", "/api/resilience/reset", body)
    session.notice(f"Reset: {found['reset']}.")
    if session.form is not Form.TABLE:
        session.print_fields(found, {"reset": "Reset"})


def _scope(session: Session, provider: str | None, connection: str | None, model: str | None) -> dict[str, str]:
    if connection is not None:
        connection = find_one(session.api.rows("/api/providers", "connections"), connection, "connection")["id"]
    given = {"provider": provider, "connectionId": connection, "model": model}
    return {name: value for name, value in given.items() if value is not None}


def _rows(state: Mapping[str, Any], now: datetime) -> Iterator[dict[str, Any]]:
    for breaker in state["breakers"]:
        yield {
            "kind": "breaker",
            "provider": breaker["provider"],
            "state": "degraded" if breaker["isDegraded"] else breaker["state"],
            "reason": breaker["reason"],
            "left": span_until(breaker["retryAt"], now),
            "message": f"{breaker['failures']} failures in a row",
        }
    for name, kind in _KINDS.items():
        for mark in state[name]:
            yield {
                "kind": kind,
                "provider": mark["provider"],
                "connection": mark["connection"] or mark["connectionId"],
                "model": mark.get("model"),
                "state": mark["state"],
                "reason": mark["reason"],
                "left": span_until(mark["until"], now) or "until it is mended",
                "message": mark["message"],
            }
    for limit in state["limits"]:
        slots = limit["concurrentRequests"]
        yield {
            "kind": "limit",
            "provider": limit["provider"],
            "connection": limit["connection"] or limit["connectionId"],
            "state": "learned",
            "left": span_until(limit["until"], now),
            "message": f"at most {slots} at once" if slots is not None else "paused",
        }
