"""`omniroute cost`: what was spent, and whether a provider's bill agrees."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.client import Content
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import MOMENT
from omniroute.cli.usage import GROUPS, PERIODS, show_cost
from omniroute.cli.usd import USD

_COLUMNS: Final = {
    "side": "Found",
    "name": "Request",
    "invoiceUsd": "Invoice",
    "logUsd": "Log",
    "differenceUsd": "Difference",
    "why": "Why",
}
_MOST_BYTES: Final = 32 << 20
_SHOWN: Final = 50


@click.group("cost", invoke_without_command=True)
@click.option("--period", type=click.Choice(PERIODS), default="month", show_default=True, help="Which days.")
@click.option("--by", type=click.Choice(GROUPS), help="What it is divided by.")
@click.pass_context
def command(ctx: click.Context, period: str, by: str | None) -> None:
    """Show what requests cost, and compare it with what a provider bills."""
    if ctx.invoked_subcommand is None:
        _show(period=period, by=by)


@pass_session
def _show(session: Session, period: str, by: str | None) -> None:
    show_cost(session, period, by)


@command.command("reconcile")
@click.option(
    "--invoice",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The provider's usage export: CSV with a header.",
)
@click.option("--provider", help="Whose file it is: a provider or node. Default: all that the log has is compared.")
@click.option("--since", type=MOMENT, help="From when it is. Default: the first day of the file.")
@click.option("--until", type=MOMENT, help="Up to when. Default: the end of its last day.")
@click.option(
    "--tolerance",
    type=USD,
    default="0.01",
    show_default=True,
    help="How far amounts may lie apart and still be the same.",
)
@pass_session
def reconcile(
    session: Session, *, path: Path, provider: str | None, since: str | None, until: str | None, tolerance: Decimal
) -> None:
    """Compare a provider's usage export with the log: exit code 0 if they agree, 1 if not, 2 for a bad file."""
    if path.stat().st_size > _MOST_BYTES:
        raise Failure(f"{path} is larger than {_MOST_BYTES >> 20} MiB; compare it in parts.", Exit.MISUSE)
    with session.progress("Comparing"):
        found = session.api.send(
            "POST",
            "/api/usage/reconcile",
            Content(path.read_bytes(), "text/csv"),
            provider=provider,
            since=since,
            until=until,
            tolerance=f"{tolerance:f}",
        )
    session.notice(_summary(found))
    if session.form is Form.JSON:
        session.print_fields(found, {})
    else:
        rows = _rows(found)
        session.print_rows("entries", rows[:_SHOWN] if session.form is Form.TABLE else rows, _COLUMNS)
    if not found["isEqual"]:
        raise SystemExit(Exit.FAILED)


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    sides = {"differing": "both", "onlyInInvoice": "invoice", "onlyInLog": "log"}
    return [
        {
            "side": side,
            "name": entry["name"],
            "invoiceUsd": None if entry["invoice"] is None else entry["invoice"]["usd"],
            "logUsd": None if entry["log"] is None else entry["log"]["usd"],
            "differenceUsd": entry["differenceUsd"],
            "why": entry["why"],
        }
        for name, side in sides.items()
        for entry in found[name]
    ]


def _summary(found: dict[str, Any]) -> str:
    totals = found["totals"]
    by = "requests" if found["comparedBy"] == "request" else "days of models"
    return (
        f"Invoice {totals['invoice']['usd']} USD, log {totals['log']['usd']} USD, "
        f"difference {totals['differenceUsd']} USD.\n"
        f"Of the {by}, {totals['matched']} agree, {totals['differing']} differ, "
        f"{totals['onlyInInvoice']} are only on the invoice and {totals['onlyInLog']} only in the log.\n"
        + ("They agree." if found["isEqual"] else "They do not agree.")
    )
