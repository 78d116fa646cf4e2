"""`omniroute cost`: what was spent, and whether a provider's bill agrees."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, notice, output_options, print_document, print_rows
from omniroute.cli.usage import GROUPS, PERIODS, show_cost

if TYPE_CHECKING:
    from omniroute.services.reconciliation import Reconciled

_COLUMNS: Final = {
    "side": "Found",
    "name": "Request",
    "invoiceUsd": "Invoice",
    "logUsd": "Log",
    "differenceUsd": "Difference",
    "why": "Why",
}
_MOST_TOLERANCE: Final = 1_000_000
_SHOWN: Final = 50


class _Amount(click.ParamType[int]):
    """An amount in USD, in nano-USD."""

    name = "USD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal(-1)
        if not amount.is_finite() or not 0 <= amount <= _MOST_TOLERANCE:
            self.fail(f"{value!r} is no amount in USD.", param, ctx)
        return int(amount * 1_000_000_000)


class _Moment(click.ParamType[float]):
    """A date or time, UTC where it names no zone, in epoch seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time such as 2027-01-31 or 2027-01-31T12:00:00Z.", param, ctx)


@click.group("cost", invoke_without_command=True)
@click.option(
    "--period", type=click.Choice(tuple(PERIODS)), default="month", show_default=True, help="Which days it is about."
)
@click.option("--by", type=click.Choice(GROUPS), help="What it is divided by.")
@data_dir_option
@output_options
@click.pass_context
def command(ctx: click.Context, period: str, by: str | None, data_dir: str | None, form: Form) -> None:
    """Show what requests cost, and compare it with what a provider bills."""
    if ctx.invoked_subcommand is None:
        show_cost(period, by, data_dir, form)


@command.command("reconcile")
@click.option(
    "--invoice",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The provider's usage export: CSV with a header.",
)
@click.option("--provider", help="Whose file it is: a provider or node. Default: all that the log has is compared.")
@click.option("--since", type=_Moment(), help="From when it is. Default: the first day of the file.")
@click.option("--until", type=_Moment(), help="Up to when. Default: the end of its last day.")
@click.option(
    "--tolerance",
    type=_Amount(),
    default="0.01",
    show_default=True,
    help="How far amounts may lie apart and still be the same.",
)
@data_dir_option
@output_options
def reconcile(
    *,
    path: Path,
    provider: str | None,
    since: float | None,
    until: float | None,
    tolerance: int,
    data_dir: str | None,
    form: Form,
) -> None:
    """Compare a provider's usage export with the log: exit code 0 if they agree, 1 if not, 2 for a bad file."""
    from omniroute.errors import ValidationFailed
    from omniroute.services.reconciliation import MOST_BYTES, document_of

    if path.stat().st_size > MOST_BYTES:
        raise Failure(f"{path} is larger than {MOST_BYTES >> 20} MiB; compare it in parts.", Exit.MISUSE)
    with open_services(data_dir) as services:
        try:
            done = services.reconciliation.run(
                path.read_bytes(), tolerance_nano_usd=tolerance, provider=provider, since=since, until=until
            )
        except ValidationFailed as error:
            raise Failure(f"{path}: {'; '.join(detail['message'] for detail in error.details)}", Exit.MISUSE) from None
    document = document_of(done)
    notice(_summary(done, document))
    if form is Form.JSON:
        print_document(document)
    else:
        rows = _rows(document)
        print_rows(form, "entries", rows[:_SHOWN] if form is Form.TABLE else rows, _COLUMNS)
    if not done.report.is_equal:
        raise SystemExit(Exit.FAILED)


def _rows(document: dict[str, Any]) -> list[dict[str, Any]]:
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
        for entry in document[name]
    ]


def _summary(done: Reconciled, document: dict[str, Any]) -> str:
    totals = document["totals"]
    by = "requests" if done.report.is_by_id else "days of models"
    return (
        f"Invoice {totals['invoice']['usd']} USD, log {totals['log']['usd']} USD, "
        f"difference {totals['differenceUsd']} USD.\n"
        f"Of the {by}, {totals['matched']} agree, {totals['differing']} differ, "
        f"{totals['onlyInInvoice']} are only on the invoice and {totals['onlyInLog']} only in the log.\n"
        + ("They agree." if done.report.is_equal else "They do not agree.")
    )
