"""`omniroute config`: settings one by one, or the whole configuration as one reviewable file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form
from omniroute.cli.session import Session, open_or_stdin, pass_session

_COLUMNS: Final = {"key": "Key", "value": "Value", "source": "Source"}
_SIGNS: Final = {"create": "+", "update": "~", "delete": "-"}
_HEADER: Final = (
    "OmniRoute's configuration. It holds no secrets; accounts are matched by provider and name.\n"
    "Apply it with: omniroute config apply FILE (--dry-run shows what would change)"
)


@click.group("config")
def command() -> None:
    """Read and change settings, or export and apply the whole configuration."""


# --- one by one ------------------------------------------------------------------------------------------------------


@command.command("list")
@click.option("--section", metavar="S", help="Only settings of this section.")
@click.option("--search", metavar="TEXT", help="Only settings that hold this text.")
@pass_session
def list_settings(session: Session, section: str | None, search: str | None) -> None:
    """List the settings with their values and where these come from: override, env or default."""
    wanted = (search or "").casefold()
    rows = [
        row
        for row in _fields(session)
        if (section is None or row["section"] == section) and wanted in f"{row['key']} {row['description']}".casefold()
    ]
    if session.form is Form.TABLE:
        rows = [row | {"value": _short(row["value"])} if isinstance(row["value"], dict) else row for row in rows]
    session.print_rows("settings", rows, _COLUMNS)


@command.command("get")
@click.argument("key")
@pass_session
def get(session: Session, key: str) -> None:
    """Print the value of the setting KEY, such as routing.stickyLimit."""
    found = _find(session, key)
    if session.form is Form.TABLE:
        click.echo(found["value"] if isinstance(found["value"], str) else json.dumps(found["value"]))
    else:
        session.print_fields(found, _COLUMNS)


@command.command("set")
@click.argument("key")
@click.argument("value")
@pass_session
def set_value(session: Session, key: str, value: str) -> None:
    """Set KEY to VALUE: a JSON value, or a text as it is."""
    found = _find(session, key)
    _patch(session, found, _parsed(value, found.get("type")))


@command.command("unset")
@click.argument("key")
@pass_session
def unset(session: Session, key: str) -> None:
    """Let KEY have its default again."""
    _patch(session, _find(session, key), None)


def _fields(session: Session) -> list[dict[str, Any]]:
    """Return what is known of each setting; of those that another part of the API describes, the value alone."""
    described = session.api.get("/api/settings/fields")["fields"]
    rows = {f"{row['section']}.{row['name']}": row for row in described}
    for section, values in session.api.get("/api/settings")["settings"].items():
        for name, value in values.items():
            bare = {"section": section, "name": name, "value": value, "description": ""}
            rows.setdefault(f"{section}.{name}", bare)
    return [{"key": key, **row} for key, row in rows.items()]


def _find(session: Session, key: str) -> Mapping[str, Any]:
    rows = _fields(session)
    matches = [row for row in rows if key in (row["key"], row["name"])]
    if len(matches) == 1:
        return matches[0]
    near = [row["key"] for row in rows if key.rpartition(".")[2].casefold() in row["key"].casefold()][:3]
    hint = f" Did you mean {', '.join(near)}?" if near else " 'omniroute config list' lists them."
    raise Failure(f"There is no setting {key!r}.{hint}", Exit.MISUSE)


def _parsed(text: str, kind: str | None) -> Any:
    if kind in ("text", "string", "choice", "enum"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _patch(session: Session, found: Mapping[str, Any], value: Any) -> None:
    session.api.send("PATCH", "/api/settings", {found["section"]: {found["name"]: value}})
    now = next(row for row in _fields(session) if row["key"] == found["key"])
    session.notice(
        f"{now['key']} is {json.dumps(now['value'], ensure_ascii=False)} now ({now.get('source', 'stored')})."
    )
    if session.form is not Form.TABLE:
        session.print_fields(now, _COLUMNS)


# --- all at once -----------------------------------------------------------------------------------------------------


@command.command("export")
@click.argument("file", default="-")
@pass_session
def export(session: Session, file: str) -> None:
    """Write the whole configuration to FILE as YAML, without secrets; `-` is standard output."""
    text = as_yaml(session.api.get("/api/settings/export-json"))
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}.", Exit.MISUSE) from error
    session.notice(f"Wrote {file}")


@command.command("apply")
@click.argument("file")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="Remove what the file does not name, in the lists that it has.")
@click.pass_context
@pass_session
def apply(session: Session, ctx: click.Context, file: str, *, dry_run: bool, prune: bool) -> None:
    """Make the configuration what FILE says: all of it, or nothing; `-` is standard input.

    What would change is shown first, and asked for unless --yes is given. Applying the same file again changes nothing.
    """
    with open_or_stdin(file) as opened:
        document = parse_document(file, opened.read().decode("utf-8", errors="replace"))
    done = apply_document(session, document, is_dry_run=dry_run, prunes=prune)
    if session.form is not Form.TABLE:
        session.print_fields(done, {})
    ctx.exit(Exit.DONE)


def apply_document(
    session: Session, document: Mapping[str, Any], *, is_dry_run: bool = False, prunes: bool = False
) -> Mapping[str, Any]:
    """Show what a configuration would change, have it confirmed, and apply it; return what came of it."""
    body: dict[str, Any] = {"configuration": document, "dryRun": True}
    if prunes:
        body["prune"] = True
    planned = session.api.send("POST", "/api/settings/import-json", body)
    if session.form is Form.TABLE:
        _show(planned["changes"])
    for warning in planned["warnings"]:
        session.notice(f"Warning: {warning['kind']} {warning['name']}: {warning['message']}")
    if is_dry_run or not planned["changes"]:
        session.notice("Nothing was changed." if planned["changes"] else "Nothing would change.")
        found: Mapping[str, Any] = planned
        return found
    session.confirm(f"Apply {_counted(planned['changes'])}?")
    done: Mapping[str, Any] = session.api.send("POST", "/api/settings/import-json", body | {"dryRun": False})
    session.notice(f"Applied {_counted(done['changes'])}.")
    return done


def _counted(changes: Sequence[Any]) -> str:
    return f"{len(changes)} change{'' if len(changes) == 1 else 's'}"


def _show(changes: Sequence[Mapping[str, Any]]) -> None:
    for change in changes:
        click.echo(f"{_SIGNS.get(change['action'], '?')} {change['kind']} {change['name']}")
        for name, (before, after) in (change.get("fields") or {}).items():
            click.echo(f"    {name}: {_short(before)} → {_short(after)}")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def as_yaml(document: Mapping[str, Any]) -> str:
    """Return a configuration as YAML with a line on top that says what it is."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    out = io.StringIO()
    yaml.dump(dict(document), out)
    return "".join(f"# {line}\n" for line in _HEADER.splitlines()) + out.getvalue()


def parse_document(file: str, text: str) -> Mapping[str, Any]:
    """Return the configuration in a YAML or JSON text.

    Raises:
        Failure: it cannot be read; the message shows the line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        raise Failure(_placed(Path(file).name, text, error), Exit.MISUSE) from error
    except YAMLError as error:
        raise Failure(f"{Path(file).name} cannot be read: {error}", Exit.MISUSE) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise Failure(f"{Path(file).name} does not hold a configuration.", Exit.MISUSE)
    try:
        document: Mapping[str, Any] = json.loads(json.dumps(found))
    except (TypeError, ValueError) as error:
        raise Failure(f"{Path(file).name} holds a value that no setting takes: {error}.", Exit.MISUSE) from error
    return document


def _placed(name: str, text: str, error: Any) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{name} cannot be read: {error.problem}."
    lines = text.splitlines()
    shown = lines[mark.line] if mark.line < len(lines) else ""
    return (
        f"{name}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}.\n  {shown}\n  {' ' * mark.column}^"
    )
