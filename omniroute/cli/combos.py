"""`omniroute combos`: named lists of models of this installation, through the same service as the dashboard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.combo_file import config_of, read, step_document, steps_of, weighted, weights_of
from omniroute.cli.keys import confirm
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, iso_time, notice, output_options, print_document, print_rows
from omniroute.routing.options import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniroute.container import Container
    from omniroute.records import Combo
    from omniroute.services.combo_reports import ComboMetrics
    from omniroute.services.combo_steps import StepStanding
    from omniroute.services.combos import Combos

_WINDOW_H: Final = 24
_LIST: Final = {
    "isDefault": "Default",
    "name": "Name",
    "strategy": "Strategy",
    "targets": "Targets",
    "requests24h": "Requests 24 h",
    "successRate24h": "Success",
}
_STEPS: Final = {
    "step": "Step",
    "model": "Model",
    "provider": "Provider",
    "weight": "Weight",
    "health": "Health",
    "usable": "Usable",
    "until": "Until",
    "inputUsdPer1M": "In $/1M",
    "outputUsdPer1M": "Out $/1M",
}
_TRIALS: Final = {
    "step": "Step",
    "model": "Model",
    "connection": "Connection",
    "status": "Status",
    "latencyMs": "ms",
    "error": "Error",
}

_strategy: Final = click.option(
    "--strategy", type=click.Choice([one.value for one in Strategy]), help="Order of steps."
)
_weights: Final = click.option("--weight", "weights", multiple=True, metavar="MODEL=N", help="Weight of a step.")
_config: Final = click.option("--config", "config", multiple=True, metavar="KEY=VALUE", help="A setting; repeatable.")
_file: Final = click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file in the form of POST /api/combos; other options win over it.",
)
_yes: Final = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def _options_of_content(command: Callable[..., Any]) -> Callable[..., Any]:
    return _strategy(_weights(_config(_file(command))))


@click.group("combos")
def command() -> None:
    """List, change and test combos: names for several models with an order."""


@command.command("list")
@click.option("--search", help="Only those with this text in their name or a target.")
@data_dir_option
@output_options
def list_combos(search: str | None, data_dir: str | None, form: Form) -> None:
    """List the combos in their order."""
    with open_services(data_dir) as services:
        metrics = {one.combo_id: one for one in services.combo_reports.metrics(combo=None, window_h=_WINDOW_H)}
        rows = [_row(combo, metrics.get(combo.id)) for combo in services.combos.all()]
    if search is not None:
        wanted = search.casefold()
        rows = [row for row in rows if any(wanted in text.casefold() for text in (row["name"], *row["targets"]))]
    if form is Form.TABLE:
        rows = [row | {"successRate24h": _percent(row["successRate24h"])} for row in rows]
    print_rows(form, "combos", rows, _LIST)


@command.command("show")
@click.argument("name")
@data_dir_option
@output_options
def show(name: str, data_dir: str | None, form: Form) -> None:
    """Show the steps of a combo, how they stand now and what they cost. NAME is its name or id."""
    from omniroute.services.combo_steps import standing_of

    with open_services(data_dir) as services:
        combo = find(services.combos, name)
        services.routing.board.load()
        assessed = services.combos.assess(combo)
        standing = standing_of(combo, services.routing.resolvers.current, services.routing.view, time.time())
    rows = [_step_row(one) for one in standing]
    if form is Form.JSON:
        warnings = [{"code": one.code, "message": one.message} for one in assessed.warnings]
        print_document(_document(combo) | {"steps": rows, "warnings": warnings})
        return
    state = "default, " if combo.is_default else "" if combo.is_active else "inactive, "
    notice(f"{combo.name} ({combo.id}): {state}strategy {combo.strategy}.")
    for remark in assessed.warnings:
        notice(f"Warning: {remark.message}")
    print_rows(form, "steps", rows, _STEPS)


@command.command("create")
@click.argument("name")
@click.argument("models", nargs=-1, metavar="MODEL...")
@_options_of_content
@data_dir_option
@output_options
def create(
    *,
    name: str,
    models: tuple[str, ...],
    strategy: str | None,
    weights: tuple[str, ...],
    config: tuple[str, ...],
    file: Path | None,
    data_dir: str | None,
    form: Form,
) -> None:
    """Create a combo of these models, in this order."""
    from omniroute.services.keys import SYSTEM

    fields = _fields(file, strategy) | {"name": name}
    if models:
        fields["models"] = list(models)
    if not fields.get("models"):
        raise Failure("Name at least one model.", Exit.MISUSE)
    fields["models"] = weighted(fields["models"], weights_of(weights))
    fields["config"] = {**fields.get("config", {}), **config_of(config)}
    with open_services(data_dir) as services:
        made = services.combos.create(fields, SYSTEM)
        _tell(services, made, f"Created {made.name} ({made.id}).", form)


@command.command("update")
@click.argument("name")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--rename", metavar="NEW", help="Another name; combos that refer to it follow.")
@click.option("--active/--inactive", "is_active", default=None, help="Whether requests can name it.")
@_options_of_content
@data_dir_option
@output_options
def update(
    *,
    name: str,
    models: tuple[str, ...],
    rename: str | None,
    is_active: bool | None,
    strategy: str | None,
    weights: tuple[str, ...],
    config: tuple[str, ...],
    file: Path | None,
    data_dir: str | None,
    form: Form,
) -> None:
    """Change what is given of a combo. NAME is its name or id; models replace its steps."""
    from omniroute.services.keys import SYSTEM

    fields = _fields(file, strategy)
    if rename is not None:
        fields["name"] = rename
    if is_active is not None:
        fields["isActive"] = is_active
    if models:
        fields["models"] = list(models)
    with open_services(data_dir) as services:
        combo = find(services.combos, name)
        if weights:
            fields["models"] = weighted(fields.get("models") or steps_of(combo), weights_of(weights))
        if config:
            merged = {**fields.get("config", combo.config), **config_of(config)}
            fields["config"] = {key: value for key, value in merged.items() if value is not None}
        if not fields:
            raise Failure("Say what is to change.", Exit.MISUSE)
        made = services.combos.change(combo.id, fields, SYSTEM)
        _tell(services, made, f"Changed {made.name} ({made.id}).", form)


@command.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also when other combos refer to it.")
@_yes
@data_dir_option
def delete(name: str, force: bool, yes: bool, data_dir: str | None) -> None:
    """Remove a combo. NAME is its name or id."""
    from omniroute.services.keys import SYSTEM

    with open_services(data_dir) as services:
        combo = find(services.combos, name)
        if not yes:
            confirm(f"Delete the combo {combo.name} ({combo.id})?")
        services.combos.delete(combo.id, SYSTEM, is_forced=force)
    notice(f"Deleted {combo.name} ({combo.id}).")


@command.command("test")
@click.argument("name")
@click.option("--prompt", help="What the models are asked.")
@data_dir_option
@output_options
def test(name: str, prompt: str | None, data_dir: str | None, form: Form) -> None:
    """Make a small call to each target of a combo. NAME is its name or id. It ends with 1 if one fails."""
    with open_services(data_dir) as services:
        combo = find(services.combos, name)
        trials = services.combo_reports.test(combo, prompt)
        tested_at = services.combo_reports.now()
    rows = [
        {
            "step": number,
            "status": trial.status,
            "model": trial.model,
            "provider": trial.provider,
            "connection": trial.connection_id,
            "latencyMs": None if trial.latency_ms is None else round(trial.latency_ms),
            "error": trial.error,
        }
        for number, trial in enumerate(trials, 1)
    ]
    if form is Form.JSON:
        print_document({"strategy": combo.strategy, "results": rows, "testedAt": iso_time(tested_at)})
    else:
        print_rows(form, "results", rows, _TRIALS)
    statuses = {trial.status for trial in trials}
    if "error" in statuses or "ok" not in statuses:
        raise Failure("Not every target serves.")


@command.command("reorder")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@data_dir_option
def reorder(names: tuple[str, ...], data_dir: str | None) -> None:
    """Put combos first, in this order; the others follow as before."""
    from omniroute.services.keys import SYSTEM

    with open_services(data_dir) as services:
        ordered = services.combos.reorder([find(services.combos, name).id for name in names], SYSTEM)
    notice(f"The order is now: {', '.join(combo.name for combo in ordered)}.")


@command.command("switch")
@click.argument("name", required=False)
@click.option("--none", "is_none", is_flag=True, help="No combo; such requests are refused.")
@data_dir_option
def switch(name: str | None, is_none: bool, data_dir: str | None) -> None:
    """Choose the combo that serves requests without a model. NAME is its name or id."""
    from omniroute.services.keys import SYSTEM

    if (name is None) != is_none:
        raise click.UsageError("Give a combo or --none.")
    with open_services(data_dir) as services:
        chosen = None if name is None else find(services.combos, name)
        services.combos.set_default(None if chosen is None else chosen.id, SYSTEM)
    notice("No combo is the default." if chosen is None else f"{chosen.name} ({chosen.id}) is the default.")


def find(combos: Combos, wanted: str) -> Combo:
    """Return the combo with this name or id.

    Raises:
        Failure: there is none.
    """
    found = next((combo for combo in combos.all() if wanted in (combo.name, combo.id)), None)
    if found is None:
        raise Failure(f"There is no combo with the name or id {wanted!r}.", Exit.MISUSE)
    return found


def _fields(file: Path | None, strategy: str | None) -> dict[str, Any]:
    fields = {} if file is None else read(file)
    return fields if strategy is None else fields | {"strategy": strategy}


def _tell(services: Container, combo: Combo, text: str, form: Form) -> None:
    notice(text)
    for remark in services.combos.assess(combo).warnings:
        notice(f"Warning: {remark.message}")
    if form is not Form.TABLE:
        print_document(_document(combo))


def _document(combo: Combo) -> dict[str, Any]:
    """Return a combo with the field names of the HTTP API."""
    return {
        "id": combo.id,
        "name": combo.name,
        "description": combo.description,
        "strategy": combo.strategy,
        "models": [step_document(step) for step in combo.steps],
        "config": dict(combo.config),
        "isActive": combo.is_active,
        "isDefault": combo.is_default,
        "sortOrder": combo.sort_order,
        "allowedProviders": list(combo.allowed_providers),
        "allowedModelFamilies": list(combo.allowed_families),
        "context_length": combo.context_length,
        "createdAt": iso_time(combo.created_at),
        "updatedAt": iso_time(combo.updated_at),
    }


def _row(combo: Combo, metrics: ComboMetrics | None) -> dict[str, Any]:
    requests = 0 if metrics is None else metrics.requests
    return _document(combo) | {
        "targets": [step.combo_name or step.channel or step.model for step in combo.steps],
        "requests24h": requests,
        "successRate24h": None if metrics is None or not requests else round(metrics.succeeded / requests, 4),
    }


def _step_row(one: StepStanding) -> dict[str, Any]:
    return {
        "step": one.number,
        "stepId": one.step_id,
        "model": one.model,
        "provider": one.provider,
        "weight": one.weight,
        "health": one.health,
        "connections": one.connections,
        "usable": one.usable,
        "until": iso_time(one.until),
        "inputUsdPer1M": one.input_usd,
        "outputUsdPer1M": one.output_usd,
    }


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
