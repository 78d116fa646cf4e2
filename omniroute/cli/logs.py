"""`omniroute logs`: what the server notes, and the requests that it served, as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import MOMENT

_COLUMNS: Final = {
    "time": "Time",
    "status": "Status",
    "model": "Model",
    "provider": "Provider",
    "apiKeyName": "Key",
    "tokensIn": "In",
    "tokensOut": "Out",
    "costUsd": "Cost",
    "durationMs": "ms",
    "attempts": "Attempts",
}
_WIDTHS: Final = {
    "time": 24,
    "status": 6,
    "model": 32,
    "provider": 12,
    "apiKeyName": 12,
    "tokensIn": 7,
    "tokensOut": 7,
    "costUsd": 11,
    "durationMs": 8,
    "attempts": 8,
}
_LEVELS: Final = ("debug", "info", "warning", "error")


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 10_000), default=100, show_default=True, help="How many to begin with."
)
@click.option("--level", type=click.Choice(_LEVELS), help="Only lines of this level or above.")
@click.option("--since", type=MOMENT, help="Only what came after this: a time, or how long ago, such as 2h.")
@click.option("--requests", is_flag=True, help="Show requests instead of the server's own lines.")
@click.option("--request-id", metavar="ID", help="Only this request; implies --requests.")
@click.option("--status", metavar="S", help="Only requests with this status, or 4xx, 5xx; implies --requests.")
@click.option("--model", metavar="M", help="Only requests to this model; implies --requests.")
@click.option("--provider", metavar="P", help="Only requests to this provider; implies --requests.")
@click.option("--key", metavar="K", help="Only requests with this key, by id or name; implies --requests.")
@click.option("--export", metavar="FILE", help="Write what is found to a file, as JSON lines.")
@pass_session
def command(
    session: Session,
    /,
    *,
    follow: bool,
    lines: int,
    level: str | None,
    since: str | None,
    requests: bool,
    request_id: str | None,
    export: str | None,
    **filters: str | None,
) -> None:
    """Show the server's log, or with --requests the requests that it served."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    is_about_requests = requests or request_id is not None or bool(wanted)
    if is_about_requests and level is not None:
        raise click.UsageError("--level is about the server's own lines, not about requests.")
    if is_about_requests:
        query = _request_query(session, wanted, since, request_id)
        found: Iterator[Mapping[str, Any]] = _requests(session, query, lines, is_followed=follow)
        show = _request_line
    else:
        found = _lines(session, {"level": level, "since": since, "limit": lines}, is_followed=follow)
        show = _log_line
    if export is not None:
        _export(session, export, found)
        return
    _print(session, found, show, is_followed=follow, is_about_requests=is_about_requests)


def _request_query(
    session: Session, wanted: Mapping[str, str], since: str | None, request_id: str | None
) -> dict[str, Any]:
    names = {"status": "status", "model": "model", "provider": "provider"}
    query: dict[str, Any] = {names[name]: value for name, value in wanted.items() if name in names}
    if "key" in wanted:
        from omniroute.cli.finding import find_one

        rows = session.api.rows("/api/keys", "keys")
        special = [{"id": name, "name": name} for name in ("local", "env", "session")]
        query["apiKeyId"] = find_one([*rows, *special], wanted["key"], "API key")["id"]
    return query | {"since": since, "q": request_id}


def _requests(session: Session, query: dict[str, Any], lines: int, *, is_followed: bool) -> Iterator[Mapping[str, Any]]:
    """Yield request rows, the oldest first."""
    rows = session.api.rows("/api/usage/logs", "logs", limit=lines, **query) if lines else []
    yield from reversed(rows)
    if is_followed:
        query = {name: value for name, value in query.items() if name != "since"}
        yield from session.server.events("/api/usage/logs/stream", **query)


def _lines(session: Session, query: dict[str, Any], *, is_followed: bool) -> Iterator[Mapping[str, Any]]:
    if is_followed:
        yield from session.server.events("/api/logs/console", follow="1", **query)
    else:
        yield from session.api.get("/api/logs/console", **query)["lines"]


def _export(session: Session, target: str, found: Iterator[Mapping[str, Any]]) -> None:
    path = Path(target)
    count = 0
    try:
        with path.open("x", encoding="utf-8") as file, session.progress("Writing") as report:
            for row in found:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
                report(count, None)
    except FileExistsError as error:
        raise Failure(f"{path} exists; give another name.", Exit.MISUSE) from error
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.", Exit.MISUSE) from error
    session.notice(f"Wrote {count} rows to {path}")


def _print(
    session: Session, found: Iterator[Mapping[str, Any]], show: Any, *, is_followed: bool, is_about_requests: bool
) -> None:
    if not is_followed and (session.form is not Form.TABLE or is_about_requests):
        noun, columns = ("logs", _COLUMNS) if is_about_requests else ("lines", _LINE_COLUMNS)
        session.print_rows(noun, list(found), columns)
        return
    if is_about_requests and session.form is Form.TABLE:
        click.echo(_request_line(_COLUMNS))
    for row in found:
        click.echo(show(row) if session.form is Form.TABLE else json.dumps(row, ensure_ascii=False))


_LINE_COLUMNS: Final = {"time": "Time", "level": "Level", "logger": "Logger", "message": "Message"}


def _log_line(row: Mapping[str, Any]) -> str:
    return f"{row['time']} {str(row['level']).upper():<7} {row.get('logger') or '-'}: {row['message']}"


def _request_line(row: Mapping[str, Any]) -> str:
    cells = ["-" if row.get(name) is None else str(row[name]) for name in _COLUMNS]
    return "  ".join(f"{cell[:width]:<{width}}" for cell, width in zip(cells, _WIDTHS.values(), strict=True)).rstrip()
