"""`omniroute quota`: what is left of the providers' quotas and credit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, notice, output_options, print_rows

if TYPE_CHECKING:
    from omniroute.services.quotas import QuotaState

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


@click.command("quota")
@click.option("--provider", help="Only this provider.")
@click.option("--refresh", is_flag=True, help="Ask the providers first.")
@click.option("--watch", is_flag=True, help="Show it again every five seconds, until interrupted.")
@data_dir_option
@output_options
def command(*, provider: str | None, refresh: bool, watch: bool, data_dir: str | None, form: Form) -> None:
    """Show what is left of the providers' quotas and credit, when it comes again, and when that was read."""
    from omniroute.services.quotas import document

    with open_services(data_dir) as services:
        services.routing.board.load()
        services.routing.quotas.load()
        if refresh:
            services.quotas.sync(provider=provider)
        while True:
            states = services.quotas.states(provider=provider)
            if form is Form.JSON:
                print_rows(form, "quotas", [document(state, iso_time) for state in states], _COLUMNS)
            else:
                print_rows(form, "quotas", list(_rows(states, time.time())), _COLUMNS)
            for state in states:
                if state.problem is not None:
                    notice(f"{state.connection.name}: {state.problem}")
            if not watch:
                return
            time.sleep(_WATCHED_EVERY_S)
            click.clear()
            services.routing.quotas.exchange()


def _rows(states: Sequence[QuotaState], now: float) -> Iterator[dict[str, Any]]:
    for state in states:
        row: dict[str, Any] = {"connection": state.connection.name, "plan": state.plan}
        if not state.windows:
            yield {**row, "window": None}
        for one in state.windows:
            window = one.reading.window
            yield {
                **row,
                "window": window.name,
                "used": None if window.used is None else f"{window.used * 100:.0f}%",
                "left": _left(window.remaining, window.unit, window.used),
                "resets": None if window.resets_at is None else _span(window.resets_at - now),
                "read": f"{_span(now - one.reading.fetched_at)} ago" + (", stale" if one.is_stale else ""),
            }


def _left(remaining: float | None, unit: str | None, used: float | None) -> str | None:
    if remaining is None:
        return None if used is None else f"{max(0.0, 1 - used) * 100:.0f}%"
    if unit in _UNITS_OF_MONEY:
        return f"{_UNITS_OF_MONEY[unit]}{remaining:,.2f}"
    return f"{remaining:,.0f} {unit or ''}".strip()


def _span(seconds: float) -> str:
    """Return a span of time as people say it."""
    minutes, seconds_left = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m" if minutes else f"{seconds_left}s"
