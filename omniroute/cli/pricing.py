"""`omniroute pricing`: what models cost, through the same services as the management API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli.keys import confirm
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, notice, output_options, print_document, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniroute.container import Container
    from omniroute.records import PriceRow
    from omniroute.services.price_sync import Imported

_UNITS: Final = ("1M", "1K")
_COLUMNS: Final = {"name": "Model", "input": "In", "output": "Out", "cached": "Cached", "source": "Source"}
_UNPRICED: Final = {"name": "Model", "requests": "Requests"}
_OPTIONS: Final = {
    "input": "input",
    "output": "output",
    "cached": "cache_read",
    "cache_write": "cache_write",
    "reasoning": "reasoning",
    "per_request": "per_request",
    "per_image": "per_image",
    "per_second": "per_second",
    "per_character": "per_character",
}
_FOR_ONE: Final = frozenset({"per_request", "per_image", "per_second"})
_NONE: Final = "none"

unit_option = click.option("--unit", type=click.Choice(_UNITS), default="1M", help="Tokens that a price is for.")


@click.group("pricing")
def command() -> None:
    """List, set, import and reset prices of models."""


@command.command("list")
@click.option("--provider", help="Only models of this provider or node.")
@click.option("--search", help="Only models with this text in their name.")
@click.option("--source", type=click.Choice(["override", "import", "builtin"]), help="Only prices from there.")
@click.option("--unpriced", is_flag=True, help="What was used in the last 30 days and has no price.")
@unit_option
@data_dir_option
@output_options
def list_prices(
    *,
    provider: str | None,
    search: str | None,
    source: str | None,
    unpriced: bool,
    unit: str,
    data_dir: str | None,
    form: Form,
) -> None:
    """List the prices in force, in USD."""
    with open_services(data_dir) as services:
        if unpriced:
            missing = [
                {"name": f"{row.provider}/{row.model}", "requests": row.requests} for row in services.prices.unpriced()
            ]
            print_rows(form, "prices", missing, _UNPRICED)
            return
        wanted = None if provider is None else services.directories.current.named_provider(provider).id
        found = [row for row in services.prices.all() if wanted in (None, row.provider)]
    rows = [row_of(row, unit) for row in found if source in (None, row.source)]
    text = (search or "").casefold()
    print_rows(form, "prices", [row for row in rows if text in row["name"].casefold()], _COLUMNS)


@command.command("set")
@click.argument("model")
@click.option("--input", help="USD per unit of tokens; 'none' takes your price back.")
@click.option("--output", "output_", help="The same for the answer.")
@click.option("--cached", help="For tokens that the provider has in its cache.")
@click.option("--cache-write", help="For tokens that it puts there.")
@click.option("--reasoning", help="For reasoning tokens, where they differ from the answer's.")
@click.option("--per-request", help="USD for a call.")
@click.option("--per-image", help="USD for an image.")
@click.option("--per-second", help="USD for a second of audio or video.")
@click.option("--per-character", help="USD per unit of characters.")
@unit_option
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print the price in force as JSON.")
def put(model: str, unit: str, data_dir: str | None, as_json: bool, **given: str | None) -> None:
    """Set your price of MODEL, given as provider/model."""
    from omniroute.services.keys import SYSTEM
    from omniroute.services.prices import Change

    given["output"] = given.pop("output_")
    prices = _prices(given, unit)
    with open_services(data_dir) as services:
        provider, name = _split(services, model)
        services.prices.change([Change(provider, name, prices)], SYSTEM)
        row = services.directories.current.prices.row(provider, name)
    if row is None:
        notice(f"{provider}/{name} has no price now.")
        return
    shown = row_of(row, unit)
    notice(f"{shown['name']}: in {shown['input']}, out {shown['output']} USD per {unit} ({row.source}).")
    if as_json:
        print_document(shown)


@command.command("reset")
@click.argument("model")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def reset(model: str, yes: bool, data_dir: str | None) -> None:
    """Drop your price of MODEL, given as provider/model, or of all models of a provider."""
    from omniroute.services.keys import SYSTEM

    with open_services(data_dir) as services:
        provider, name = _split(services, model) if "/" in model else (model, None)
        if not yes:
            confirm(f"Drop your price of {model!r}?" if name else f"Drop your prices of all models of {model!r}?")
        count = services.prices.reset(provider, name, SYSTEM)
    notice(f"Dropped {count} price{'s' if count != 1 else ''}.")


@command.command("sync")
@click.option("--source", type=click.Choice(["package", "list"]), help="Where from. Default: what is configured.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@data_dir_option
@output_options
def sync(source: str | None, dry_run: bool, data_dir: str | None, form: Form) -> None:
    """Import prices from the list of the genai-prices package, or the public one."""
    from omniroute.services.keys import SYSTEM
    from omniroute.services.price_sync import Source

    with open_services(data_dir) as services:
        chosen = Source(source) if source is not None else None
        found = services.price_sync.run(SYSTEM, source=chosen, is_dry_run=dry_run)
    notice(_summary(found))
    print_rows(form, "changed", [row_of(row, "1M") for row in found.changed], _COLUMNS)


def row_of(row: PriceRow, unit: str) -> dict[str, Any]:
    """Return a price with the field names of the HTTP API, and the model's whole name."""
    from omniroute.money.price_text import per_unit, plain

    def per(text: str | None) -> str | None:
        return None if text is None else plain(per_unit(text, unit))

    return {
        "name": f"{row.provider}/{row.model}",
        "provider": row.provider,
        "model": row.model,
        "input": per(row.input),
        "output": per(row.output),
        "cached": per(row.cache_read),
        "cacheWrite": per(row.cache_write),
        "reasoning": per(row.reasoning),
        "perRequest": row.per_request,
        "perImage": row.per_image,
        "perSecond": row.per_second,
        "perCharacter": per(row.per_character),
        "unit": unit,
        "source": row.source,
        "updatedAt": iso_time(row.updated_at or None),
    }


def _prices(given: Mapping[str, str | None], unit: str) -> dict[str, str | None]:
    from omniroute.money.price_text import UNITS, price_text

    prices: dict[str, str | None] = {}
    for option, field in _OPTIONS.items():
        text = given.get(option)
        if text is None:
            continue
        try:
            factor = 1 if option in _FOR_ONE else UNITS[unit]
            prices[field] = None if text == _NONE else price_text(text, factor=factor)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=f"--{option.replace('_', '-')}") from None
    if not prices:
        raise click.UsageError("Give at least one price, such as --input 2.50.")
    return prices


def _split(services: Container, model: str) -> tuple[str, str]:
    prefix, slash, name = model.partition("/")
    if not slash or not name:
        raise click.BadParameter("must be provider/model, such as openai/gpt-5", param_hint="MODEL")
    return services.directories.current.named_provider(prefix).id, name


def _summary(found: Imported) -> str:
    verb = "would change" if found.is_dry_run else "changed"
    return f"{len(found.rows)} prices from {found.source} (genai-prices {found.version}); {len(found.changed)} {verb}."
