"""`omniroute health`: the blocks of the Health page, and whether all is well."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from omniroute.cli import Exit
from omniroute.cli.output import Form, print_document
from omniroute.cli.session import Session, pass_session

_EVERY_S: Final = 10.0
_BLOCKS: Final = (
    ("system", "System"),
    ("providers", "Provider breakers"),
    ("rateLimits", "Rests"),
    ("lockouts", "Model lockouts"),
    ("signatureCache", "Signature cache"),
    ("latency", "Latency"),
    ("jobs", "Jobs"),
    ("storage", "Storage"),
    ("warnings", "Warnings"),
)


@click.command("health")
@click.option("--watch", is_flag=True, help="Show it again every 10 seconds, until interrupted.")
@click.option("--alerts", is_flag=True, help="Only what is not in order.")
@click.pass_context
@pass_session
def command(session: Session, ctx: click.Context, watch: bool, alerts: bool) -> None:
    """Show how the server and its providers are; exit code 1 when it is unhealthy."""
    while True:
        found = session.server.get("/api/monitoring/health")
        if watch and session.form is Form.TABLE:
            click.clear()
        _print(session, found, only_alerts=alerts)
        if not watch:
            break
        time.sleep(_EVERY_S)
    ctx.exit(Exit.FAILED if found["status"] == "unhealthy" else Exit.DONE)


def _print(session: Session, found: Mapping[str, Any], *, only_alerts: bool) -> None:
    if session.form is not Form.TABLE:
        wanted = ("status", "timestamp", "rateLimits", "lockouts", "warnings")
        print_document({name: found[name] for name in wanted} if only_alerts else found)
        return
    click.echo(f"Status  {found['status']}")
    for name, title in _BLOCKS:
        block = found.get(name)
        if only_alerts and name not in ("rateLimits", "lockouts", "warnings"):
            continue
        lines = list(_lines(block))
        if lines or not only_alerts:
            click.echo(f"\n{title}")
            for line in lines or ("  none",):
                click.echo(line)


def _lines(block: Any, indent: str = "  ") -> Sequence[str]:
    if not block:
        return ()
    match block:
        case Mapping() if all(isinstance(value, Mapping) for value in block.values()):
            return [f"{indent}{name:<20}{_inline(value)}" for name, value in block.items()]
        case Mapping():
            width = max(len(name) for name in block) + 2
            return [f"{indent}{name:<{width}}{_plain(value)}" for name, value in block.items()]
        case list() | tuple():
            return [f"{indent}{_inline(item) if isinstance(item, Mapping) else item}" for item in block]
        case _:
            return (f"{indent}{block}",)


def _inline(row: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {_plain(value)}" for name, value in row.items() if value not in (None, [], {}))


def _plain(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(_inline(item) if isinstance(item, Mapping) else str(item) for item in value) or "-"
        case Mapping():
            return _inline(value)
        case _:
            return str(value)
