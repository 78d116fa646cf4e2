"""`omniroute audit`: who changed what, and whether the record is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import MOMENT

_COLUMNS: Final = {
    "time": "Time",
    "action": "Action",
    "actor": "Actor",
    "target": "Target",
    "outcome": "Outcome",
    "address": "Address",
}
_FILTERS: Final = (
    click.option("--action", metavar="A", help="Only this action, or those that begin so, such as key."),
    click.option("--actor", metavar="A", help="Only what this actor did."),
    click.option("--target", metavar="T", help="Only what was done to this."),
    click.option("--outcome", type=click.Choice(("success", "failure", "denied")), help="Only these."),
    click.option("--request-id", metavar="ID", help="Only what this request did."),
    click.option("--since", type=MOMENT, help="Only what came after this: a time, or how long ago, such as 2h."),
    click.option("--until", type=MOMENT, help="Only what came before this."),
)


def _with_filters(command: Any) -> Any:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group("audit")
def command() -> None:
    """Show, export and check the record of who changed what."""


@command.command("list")
@_with_filters
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, metavar="N", help="How many.")
@pass_session
def list_entries(session: Session, /, *, limit: int, **filters: str | None) -> None:
    """List the newest entries."""
    session.print_rows("entries", _entries(session, filters, limit), _COLUMNS)


@command.command("export")
@click.argument("file")
@_with_filters
@pass_session
def export(session: Session, /, *, file: str, **filters: str | None) -> None:
    """Write entries to FILE as JSON lines, the newest first."""
    import json

    path = Path(file)
    rows = _entries(session, filters, None)
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except FileExistsError as error:
        raise Failure(f"{path} exists; give another name.", Exit.MISUSE) from error
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.", Exit.MISUSE) from error
    session.notice(f"Wrote {len(rows)} entries to {path}")


@command.command("verify")
@click.pass_context
@pass_session
def verify(session: Session, ctx: click.Context) -> None:
    """Check that no entry was changed or taken out; exit code 1 if one was."""
    found = session.api.get("/api/audit/verify")
    session.print_fields(found, {name: name for name in found})
    ctx.exit(Exit.DONE if found["valid"] else Exit.FAILED)


def _entries(session: Session, filters: dict[str, str | None], limit: int | None) -> list[dict[str, Any]]:
    query = {("requestId" if name == "request_id" else name): value for name, value in filters.items()}
    rows = session.api.rows("/api/audit", "entries", limit=limit, **query)
    return [row | {"target": _target(row)} for row in rows]


def _target(row: dict[str, Any]) -> str | None:
    kind, name = row.get("targetKind"), row.get("targetId")
    return f"{kind} {name}" if kind and name else name or kind
