"""How commands print: data to stdout in the form that was asked for, everything else to stderr."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_GAP: Final = "  "
_NARROWEST: Final = 8


class Form(StrEnum):
    """Output forms."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def output_options(command: F) -> F:
    """Add `-o/--output` and `--json`; the command gets `form`."""

    def choose(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            ctx.params["form"] = Form.JSON

    def parse(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Form:
        if value is not None:
            return Form(value)
        chosen = ctx.params.get("form")
        return chosen if isinstance(chosen, Form) else Form.TABLE

    command = click.option(
        "--json", is_flag=True, expose_value=False, is_eager=True, callback=choose, help="The same as -o json."
    )(command)
    return click.option(
        "-o", "--output", "form", type=click.Choice([form.value for form in Form]), callback=parse, help="Output form."
    )(command)


def notice(text: str) -> None:
    """Tell the person at the terminal something that is not data."""
    click.echo(text, err=True)


def print_document(document: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_rows(form: Form, noun: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print a list.

    Args:
        form: What was asked for.
        noun: Name of the list in the JSON document.
        rows: Fields by their names in the HTTP API.
        columns: For tables: heading of a column by field name, in order.
    """
    match form:
        case Form.JSON:
            print_document({noun: list(rows), "total": len(rows)})
        case Form.JSONL:
            for row in rows:
                click.echo(json.dumps(row, ensure_ascii=False))
        case Form.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_cell(row.get(name), "") for name in columns] for row in rows)
        case Form.TABLE:
            _print_table([list(columns.values()), *([_cell(row.get(name)) for name in columns] for row in rows)])
        case _:
            raise ValueError(form)


def print_fields(form: Form, document: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Print one thing: for people a line for each label, else the document or, as csv, the labelled fields."""
    match form:
        case Form.JSON:
            print_document(document)
        case Form.JSONL:
            click.echo(json.dumps(document, ensure_ascii=False))
        case Form.CSV:
            print_rows(form, "", [document], labels)
        case Form.TABLE:
            width = max(len(label) for label in labels.values())
            for name, label in labels.items():
                click.echo(f"{label:<{width}}  {_cell(document.get(name))}")
        case _:
            raise ValueError(form)


def iso_time(moment_s: float | None) -> str | None:
    """Return epoch seconds the way the HTTP API writes times."""
    if moment_s is None:
        return None
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(value: Any, nothing: str = "-") -> str:
    match value:
        case None | "" | []:
            return nothing
        case True:
            return "yes"
        case False:
            return "no"
        case list() | tuple():
            return ",".join(str(item) for item in value)
        case _:
            return str(value)


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    if sys.stdout.isatty():
        # Only people mind a broken line; a pipe gets everything.
        spare = shutil.get_terminal_size().columns - sum(widths) - len(_GAP) * (len(widths) - 1)
        widest = widths.index(max(widths))
        widths[widest] = max(_NARROWEST, widths[widest] + min(0, spare))
    for line in lines:
        cells = [_fit(cell, width) for cell, width in zip(line, widths, strict=True)]
        click.echo(_GAP.join(cells).rstrip())


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"
