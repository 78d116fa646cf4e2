"""`omniroute resilience`: what rests in this installation and why, and how that is ended early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, notice, output_options, print_document, print_rows

if TYPE_CHECKING:
    from omniroute.container import Container
    from omniroute.services.resilience import Scope
    from omniroute.services.resilience_state import ResilienceState

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


def _scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--model", help="Only lockouts of this model.")(command)
    command = click.option("--connection", help="Only this connection, by its id or name.")(command)
    return click.option("--provider", help="Only this provider or node.")(command)


@click.group("resilience")
def command() -> None:
    """Show what rests and why, and end it early."""


@command.command("show")
@_scope_options
@data_dir_option
@output_options
def show(provider: str | None, connection: str | None, model: str | None, data_dir: str | None, form: Form) -> None:
    """Show breakers, cooldowns, dead connections and lockouts, with their reasons and the time left."""
    from omniroute.services.resilience_state import document

    with open_services(data_dir) as services:
        state = services.resilience.state(_scope(services, provider, connection, model))
    if form is Form.JSON:
        # Who waits is known to the workers alone.
        print_document({name: rows for name, rows in document(state).items() if name != "queues"})
    else:
        print_rows(form, "marks", list(_rows(state, time.time())), _COLUMNS)


@command.command("reset")
@_scope_options
@click.option("--all", "is_all", is_flag=True, help="Everything that rests.")
@data_dir_option
@output_options
def reset(
    *,
    provider: str | None,
    connection: str | None,
    model: str | None,
    is_all: bool,
    data_dir: str | None,
    form: Form,
) -> None:
    """End what rests; running workers follow within a second."""
    from omniroute.services.keys import SYSTEM

    if is_all == any(given is not None for given in (provider, connection, model)):
        raise click.UsageError("Give --all, or what of --provider, --connection and --model is meant.")
    with open_services(data_dir) as services:
        count = services.resilience.reset(_scope(services, provider, connection, model), SYSTEM)
    notice(f"Reset: {count}.")
    if form is not Form.TABLE:
        print_document({"reset": count})


def _scope(services: Container, provider: str | None, connection: str | None, model: str | None) -> Scope:
    from omniroute.services.resilience import Scope

    if connection is None:
        return Scope(provider, None, model)
    known = services.snapshots.current.connections
    found = [one.id for one in known if one.id == connection] or [one.id for one in known if one.name == connection]
    if len(found) > 1:
        raise Failure(f"Several connections are named {connection!r}: {', '.join(found)}. Give the id.", Exit.MISUSE)
    return Scope(provider, found[0] if found else connection, model)


def _rows(state: ResilienceState, now: float) -> Iterator[dict[str, Any]]:
    for breaker in state.breakers:
        word = "degraded" if breaker.is_degraded else breaker.state.value
        yield {
            "kind": "breaker",
            "provider": breaker.provider,
            "state": word,
            "reason": breaker.why.kind,
            "left": _left(breaker.retry_at, now),
            "message": f"{breaker.failures} failures in a row",
        }
    for mark in (*state.cooldowns, *state.dead, *state.lockouts):
        yield {
            "kind": mark.kind.value,
            "provider": mark.provider,
            "connection": mark.connection or mark.connection_id,
            "model": mark.model,
            "state": "probing" if mark.is_awaited else "resting",
            "reason": mark.why.kind,
            "left": _left(mark.until, now) if mark.until is not None else "until it is mended",
            "message": mark.why.message,
        }
    for limit in state.limits:
        slots = f"at most {limit.slots} at once" if limit.slots is not None else "paused"
        yield {
            "kind": "limit",
            "provider": limit.provider,
            "connection": limit.connection or limit.connection_id,
            "state": "learned",
            "left": _left(limit.until, now),
            "message": slots,
        }


def _left(until: float | None, now: float) -> str | None:
    """Return how long it is until a time, as people say it."""
    if until is None:
        return None
    left = max(0, round(until - now))
    minutes, seconds = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {seconds}s" if minutes else f"{seconds}s"
