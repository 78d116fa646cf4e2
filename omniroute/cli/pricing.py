"""`omniroute pricing`: what models cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/api/pricing"
_UNITS: Final = ("1M", "1K")
_COLUMNS: Final = {"name": "Model", "input": "In", "output": "Out", "cached": "Cached", "source": "Source"}
_UNPRICED: Final = {"name": "Model", "requests": "Requests"}
_FIELDS: Final = {
    "input": "input",
    "output": "output",
    "cached": "cached",
    "cache_write": "cacheWrite",
    "reasoning": "reasoning",
    "per_request": "perRequest",
    "per_image": "perImage",
    "per_second": "perSecond",
    "per_character": "perCharacter",
}
_NONE: Final = "none"

unit_option = click.option("--unit", type=click.Choice(_UNITS), default="1M", help="Tokens that a price is for.")


@click.group("pricing", cls=AliasGroup, aliases={"import": "sync"})
def command() -> None:
    """List, set, import and reset prices of models."""


@command.command("list")
@click.option("--provider", metavar="NAME", help="Only models of this provider or node.")
@click.option("--search", metavar="TEXT", help="Only models with this text in their name.")
@click.option(
    "--source", type=click.Choice(["override", "provider", "import", "builtin"]), help="Only prices from there."
)
@click.option("--unpriced", is_flag=True, help="What was used in the last 30 days and has no price.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@unit_option
@pass_session
def list_prices(
    session: Session,
    *,
    provider: str | None,
    search: str | None,
    source: str | None,
    unpriced: bool,
    limit: int | None,
    unit: str,
) -> None:
    """List the prices in force, in USD."""
    if unpriced:
        rows = session.api.rows(_PATH, "prices", limit=limit, provider=provider, unpriced=True)
        _print(session, "prices", rows, _UNPRICED)
        return
    rows = session.api.rows(_PATH, "prices", limit=limit, provider=provider, q=search, source=source, unit=unit)
    _print(session, "prices", rows, _COLUMNS)


@command.command("set")
@click.argument("model")
@click.option("--input", metavar="USD", help="USD per unit of tokens; 'none' takes your price back.")
@click.option("--output", "output_", metavar="USD", help="The same for the answer.")
@click.option("--cached", metavar="USD", help="For tokens that the provider has in its cache.")
@click.option("--cache-write", metavar="USD", help="For tokens that it puts there.")
@click.option("--reasoning", metavar="USD", help="For reasoning tokens, where they differ from the answer's.")
@click.option("--per-request", metavar="USD", help="USD for a call.")
@click.option("--per-image", metavar="USD", help="USD for an image.")
@click.option("--per-second", metavar="USD", help="USD for a second of audio or video.")
@click.option("--per-character", metavar="USD", help="USD per unit of characters.")
@unit_option
@pass_session
def put(session: Session, /, *, model: str, unit: str, **given: str | None) -> None:
    """Set your price of MODEL, given as provider/model."""
    provider, name = _split(model)
    given["output"] = given.pop("output_")
    chosen = {field: given[option] for option, field in _FIELDS.items() if given[option] is not None}
    prices = {field: None if text == _NONE else text for field, text in chosen.items()}
    if not prices:
        raise Failure("Give at least one price, such as --input 2.50.", Exit.MISUSE)
    changed = session.api.send("PATCH", _PATH, {provider: {name: prices}, "unit": unit})["prices"]
    row = changed[0] if changed else _in_force(session, provider, name, unit)
    if row is None:
        session.notice(f"{model} has no price now.")
        return
    shown = _named(row)
    session.notice(
        f"{shown['name']}: in {_price(row['input'])}, out {_price(row['output'])} USD per {unit} ({row['source']})."
    )
    if session.form is not Form.TABLE:
        session.print_fields(shown if session.form is Form.CSV else row, _COLUMNS)


def _in_force(session: Session, provider: str, name: str, unit: str) -> Mapping[str, Any] | None:
    """Return the price of a model about which nothing changed."""
    rows: list[Mapping[str, Any]] = session.api.get(_PATH, provider=provider, model=name, unit=unit)["prices"]
    return rows[0] if rows else None


@command.command("reset")
@click.argument("model")
@pass_session
def reset(session: Session, model: str) -> None:
    """Drop your price of MODEL, given as provider/model, or of all models of a provider."""
    provider, name = _split(model) if "/" in model else (model, None)
    session.confirm(f"Drop your price of {model!r}?" if name else f"Drop your prices of all models of {model!r}?")
    count = session.api.send("DELETE", _PATH, provider=provider, model=name)["deleted"]
    session.notice(f"Dropped {count} price{'s' if count != 1 else ''}.")


@command.command("sync")
@click.option("--source", type=click.Choice(["package", "list"]), help="Where from. Default: what is configured.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@pass_session
def sync(session: Session, source: str | None, dry_run: bool) -> None:
    """Import prices from the list of the genai-prices package, or the public one."""
    body: dict[str, Any] = {"dryRun": dry_run} | ({} if source is None else {"source": source})
    with session.progress("Importing prices"):
        found = session.api.send("POST", f"{_PATH}/sync", body)
    verb = "would change" if found["dryRun"] else "changed"
    session.notice(
        f"{found['imported']} prices from {found['source']} (genai-prices {found['version']});"
        f" {len(found['changed'])} {verb}."
    )
    if session.form is Form.JSON:
        session.print_fields(found, {})
    else:
        _print(session, "changed", found["changed"], _COLUMNS)


def _print(session: Session, noun: str, rows: list[dict[str, Any]], columns: Mapping[str, str]) -> None:
    if session.form is Form.TABLE:
        rows = [_named(row) | {name: _price(row[name]) for name in ("input", "output", "cached")} for row in rows]
    elif session.form is Form.CSV:
        rows = [_named(row) for row in rows]
    session.print_rows(noun, rows, columns)


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": f"{row['provider']}/{row['model']}", **row}


def _price(value: float | None) -> str | None:
    """Return a price without exponent and without zeros that say nothing."""
    return None if value is None else f"{value:.9f}".rstrip("0").rstrip(".")


def _split(model: str) -> tuple[str, str]:
    provider, slash, name = model.partition("/")
    if not slash or not name or not provider:
        raise click.BadParameter("must be provider/model, such as openai/gpt-5", param_hint="MODEL")
    return provider, name
