"""`omniroute combos`: names for several models with an order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.combo_file import config_of, read, target_of, weighted, weights_of
from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/api/combos"
_WINDOW_H: Final = 24
_LIST: Final = {
    "isDefault": "",
    "name": "Name",
    "strategy": "Strategy",
    "targets": "Targets",
    "requests": "Requests 24 h",
    "success": "Success",
}
_LABELS: Final = {
    "id": "Id",
    "name": "Name",
    "strategy": "Strategy",
    "targets": "Targets",
    "isActive": "Active",
    "isDefault": "Default",
}
_TARGETS: Final = {
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
    "--strategy", metavar="NAME", help="How steps are ordered: priority, weighted, round-robin, random, auto, …"
)
_weights: Final = click.option(
    "--weight", "weights", multiple=True, metavar="MODEL=N", help="Weight of a step, 0 to 100; repeatable."
)
_config: Final = click.option("--config", "config", multiple=True, metavar="KEY=VALUE", help="A setting; repeatable.")
_file: Final = click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file in the form of POST /api/combos; other options win over it.",
)


def _options_of_content(command: Callable[..., Any]) -> Callable[..., Any]:
    return _strategy(_weights(_config(_file(command))))


@click.group("combos", cls=AliasGroup, aliases={"add": "create", "set": "update", "remove": "delete"})
def command() -> None:
    """List, change and test combos: names for several models with an order."""


@command.command("list")
@click.option("--search", metavar="TEXT", help="Only those with this text in their name, description or a target.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_combos(session: Session, search: str | None, limit: int | None) -> None:
    """List the combos in their order; the default is marked."""
    rows = session.api.rows(_PATH, "combos", limit=limit, q=search)
    if session.form in (Form.TABLE, Form.CSV):
        served = session.api.get(f"{_PATH}/metrics", windowHours=_WINDOW_H)["metrics"]
        figures = {one["comboId"]: one for one in served}
        rows = [_row(combo, figures.get(combo["id"])) for combo in rows]
    if session.form is Form.TABLE:
        rows = [row | {"isDefault": "*" if row["isDefault"] else " "} for row in rows]
    session.print_rows("combos", rows, _LIST)


def _row(combo: Mapping[str, Any], figures: Mapping[str, Any] | None) -> dict[str, Any]:
    requests = 0 if figures is None else figures["requests"]
    return {
        **combo,
        "targets": _targets(combo),
        "requests": requests,
        "success": f"{figures['success'] / requests:.1%}" if figures is not None and requests else None,
    }


def _targets(combo: Mapping[str, Any]) -> list[str]:
    return [target_of(step) for step in combo["models"]]


@command.command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """Show the steps of a combo, with their health and prices. NAME is its name or id."""
    combo = session.api.get(f"{_PATH}/{_find(session, name)['id']}")
    if session.form is Form.JSON:
        session.print_fields(combo, {})
        return
    state = "default, " if combo["isDefault"] else "" if combo["isActive"] else "inactive, "
    session.notice(f"{combo['name']} ({combo['id']}): {state}strategy {combo['strategy']}.")
    _warn(session, combo)
    session.print_rows("targets", combo["targets"], _TARGETS)


@command.command("create")
@click.argument("name")
@click.argument("models", nargs=-1, metavar="MODEL...")
@_options_of_content
@pass_session
def create(
    session: Session,
    *,
    name: str,
    models: tuple[str, ...],
    strategy: str | None,
    weights: tuple[str, ...],
    config: tuple[str, ...],
    file: Path | None,
) -> None:
    """Create a combo of these models, in this order."""
    body = _content(file, strategy) | {"name": name}
    if models:
        body["models"] = list(models)
    if not body.get("models"):
        raise Failure("Name at least one model.", Exit.MISUSE)
    if weights:
        body["models"] = weighted(body["models"], weights_of(weights))
    if config:
        body["config"] = {**body.get("config", {}), **config_of(config)}
    made = session.api.send("POST", _PATH, body)
    _tell(session, made, f"Created {made['name']} ({made['id']}).")


@command.command("update")
@click.argument("name")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--rename", metavar="NEW", help="Another name; combos that refer to it follow.")
@click.option("--active/--inactive", "is_active", default=None, help="Whether requests can name it.")
@_options_of_content
@pass_session
def update(
    session: Session,
    *,
    name: str,
    models: tuple[str, ...],
    rename: str | None,
    is_active: bool | None,
    strategy: str | None,
    weights: tuple[str, ...],
    config: tuple[str, ...],
    file: Path | None,
) -> None:
    """Change what is given of a combo. NAME is its name or id; models replace its steps.

    A setting that is null is taken back: `--config maxRetries=null`.
    """
    body = _content(file, strategy)
    if rename is not None:
        body["name"] = rename
    if is_active is not None:
        body["isActive"] = is_active
    if models:
        body["models"] = list(models)
    combo = _find(session, name)
    if weights:
        body["models"] = weighted(body.get("models") or combo["models"], weights_of(weights))
    if config:
        merged = {**body.get("config", combo["config"]), **config_of(config)}
        body["config"] = {key: value for key, value in merged.items() if value is not None}
    if not body:
        raise Failure("Say what is to change; see --help.", Exit.MISUSE)
    made = session.api.send("PATCH", f"{_PATH}/{combo['id']}", body)
    _tell(session, made, f"Changed {made['name']} ({made['id']}).")


@command.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also when other combos refer to it.")
@pass_session
def delete(session: Session, name: str, force: bool) -> None:
    """Remove a combo. NAME is its name or id."""
    combo = _find(session, name)
    session.confirm(f"Delete the combo {combo['name']} ({combo['id']})?")
    session.api.send("DELETE", f"{_PATH}/{combo['id']}", force=True if force else None)
    session.notice(f"Deleted {combo['name']} ({combo['id']}).")


@command.command("test")
@click.argument("name")
@click.option("--prompt", metavar="TEXT", help="What the models are asked.")
@pass_session
def test(session: Session, name: str, prompt: str | None) -> None:
    """Make a small call to each target of a combo. NAME is its name or id. It ends with 1 if one fails."""
    body = {"id": _find(session, name)["id"]} | ({} if prompt is None else {"prompt": prompt})
    found = session.api.send("POST", f"{_PATH}/test", body)
    results = found["results"]
    if session.form is Form.JSON:
        session.print_fields(found, {})
    else:
        session.print_rows("results", [_trial(number, one) for number, one in enumerate(results, 1)], _TRIALS)
    statuses = {one["status"] for one in results}
    if "error" in statuses or "ok" not in statuses:
        raise Failure("Not every target serves.")


def _trial(number: int, one: Mapping[str, Any]) -> dict[str, Any]:
    latency = one["latencyMs"]
    return {**one, "step": number, "latencyMs": None if latency is None else round(latency)}


@command.command("reorder")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@pass_session
def reorder(session: Session, names: tuple[str, ...]) -> None:
    """Put combos first, in this order; the others follow as before."""
    rows = session.api.rows(_PATH, "combos")
    body = {"comboIds": [find_one(rows, name, "combo")["id"] for name in names]}
    ordered = session.api.send("POST", f"{_PATH}/reorder", body)["combos"]
    session.notice(f"The order is now: {', '.join(combo['name'] for combo in ordered)}.")


@command.command("switch")
@click.argument("name", required=False)
@click.option("--none", "is_none", is_flag=True, help="No combo; such requests are refused.")
@pass_session
def switch(session: Session, name: str | None, is_none: bool) -> None:
    """Choose the combo that serves requests without a model. NAME is its name or id."""
    if (name is None) != is_none:
        raise click.UsageError("Give a combo or --none.")
    chosen = None if name is None else _find(session, name)
    session.api.send("PUT", f"{_PATH}/default", {"id": None if chosen is None else chosen["id"]})
    told = "No combo is the default." if chosen is None else f"{chosen['name']} ({chosen['id']}) is the default."
    session.notice(told)


def _find(session: Session, wanted: str) -> Mapping[str, Any]:
    return find_one(session.api.rows(_PATH, "combos"), wanted, "combo")


def _content(file: Path | None, strategy: str | None) -> dict[str, Any]:
    body = {} if file is None else read(file)
    return body if strategy is None else body | {"strategy": strategy}


def _tell(session: Session, combo: Mapping[str, Any], text: str) -> None:
    session.notice(text)
    _warn(session, combo)
    if session.form is not Form.TABLE:
        shown = combo if session.form is not Form.CSV else {**combo, "targets": _targets(combo)}
        session.print_fields(shown, _LABELS)


def _warn(session: Session, combo: Mapping[str, Any]) -> None:
    for remark in combo["warnings"]:
        session.notice(f"Warning: {remark['message']}")
