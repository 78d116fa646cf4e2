"""`omniroute simulate`, `explain` and `replay`: what routing would do, what it did, what it would have done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.finding import find_one
from omniroute.cli.output import Form, print_rows
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import MOMENT

_LARGEST_FILE: Final = 10 << 20
_PATH_COLUMNS: Final = {
    "order": "Order",
    "model": "Model",
    "provider": "Provider",
    "connection": "Connection",
    "eligible": "Eligible",
    "reason": "Reason",
    "estCostUsd": "Est. cost",
    "estLatencyMs": "Est. latency ms",
}
_COMPARISON_COLUMNS: Final = {"figure": "Figure", "before": "Before", "after": "After"}
_SAMPLE_COLUMNS: Final = {"requestId": "Request", "before": "Before", "after": "After", "why": "Why"}
_FIGURES: Final = (
    ("Failures (known)", "failuresBefore.known", "failuresAfter.known"),
    ("Failures (assumed)", "failuresBefore.assumed", "failuresAfter.assumed"),
    ("Cost, USD", "costBefore", "costAfter"),
    ("Without a price", "unpricedBefore", "unpricedAfter"),
    ("First content p50, ms", "ttftP50MsBefore", "ttftP50MsAfter"),
    ("First content p95, ms", "ttftP95MsBefore", "ttftP95MsAfter"),
)


@click.command("simulate")
@click.argument("model")
@click.option("--tokens", type=click.IntRange(0, 100_000_000), help="Tokens of the prompt. Default: 1000.")
@click.option("--tools", is_flag=True, help="The request declares tools.")
@click.option("--vision", is_flag=True, help="The request holds images.")
@click.option("--key", help="Id or name of the API key that asks. Default: none, which may use everything.")
@click.option("--session", "session_id", metavar="KEY", help="Session key that the request carries.")
@click.option(
    "--prompt-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the prompt, whose length is estimated.",
)
@pass_session
def simulate(
    session: Session,
    *,
    model: str,
    tokens: int | None,
    tools: bool,
    vision: bool,
    key: str | None,
    session_id: str | None,
    prompt_file: Path | None,
) -> None:
    """Show who would be tried for a request, in which order; none is sent."""
    if tokens is not None and prompt_file is not None:
        raise click.UsageError("Give --tokens or --prompt-file, not both.")
    body: dict[str, Any] = {"model": model, "tools": tools, "vision": vision}
    if prompt_file is not None:
        tokens = _tokens_of(prompt_file)
    if tokens is not None:
        body["promptTokens"] = tokens
    if key is not None:
        body["apiKeyId"] = find_one(session.api.rows("/api/keys", "keys"), key, "API key")["id"]
    if session_id is not None:
        body["sessionId"] = session_id
    found = session.api.send("POST", "/api/routing/simulate", body)
    if session.form is Form.JSON:
        session.print_fields(found, {})
    else:
        _print_path(session, model, found)
    if not any(row["eligible"] for row in found["path"]):
        raise Failure("Nothing could serve this request.")


def _print_path(session: Session, model: str, found: Mapping[str, Any]) -> None:
    resolved = found["resolved"]
    session.notice(f"{model} is {resolved['name']} ({resolved['kind']}), strategy {resolved['strategy']}.")
    for warning in found["warnings"]:
        session.notice(f"Warning: {warning}")
    rows = found["path"]
    if session.form is Form.TABLE:
        rows = [row | {"connection": row["connectionName"] or row["connection"]} for row in rows]
    session.print_rows("path", rows, _PATH_COLUMNS)


@click.command("explain")
@click.argument("request_id")
@pass_session
def explain(session: Session, request_id: str) -> None:
    """Say in words how a request was routed: who was tried, who was left out, and why."""
    path = f"/api/routing/decisions/{quote(request_id, safe='')}"
    if session.form is Form.TABLE:
        click.echo(session.api.text(path, format="text"), nl=False)
    else:
        session.print_fields(session.api.get(path), {"requestId": "Request"})


@click.command("replay")
@click.option(
    "--since",
    type=MOMENT,
    default="24h",
    show_default=True,
    help="How long ago (30m, 24h, 7d), or an ISO 8601 time.",
)
@click.option("--until", type=MOMENT, help="The same; up to then. Default: now.")
@click.option("--model", help="Only requests for this model, or served by it.")
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with the other policy. Without it nothing differs.",
)
@click.option("--verify", is_flag=True, help="Also decide each request again and compare; a difference ends with 1.")
@pass_session
def replay(
    session: Session, *, since: str, until: str | None, model: str | None, policy: Path | None, verify: bool
) -> None:
    """Replay recorded requests against another policy. Nothing is sent and nothing is changed."""
    body: dict[str, Any] = {"since": since, "verify": verify}
    body |= {name: value for name, value in {"until": until, "model": model}.items() if value is not None}
    if policy is not None:
        body["policy"] = _policy(policy)
    comparison = _compared(session, body)
    if session.form is Form.TABLE:
        _print_comparison(comparison)
    else:
        session.print_fields(comparison, {"requests": "Requests", "identical": "Decided alike"})
    if comparison.get("verify", {}).get("mismatched"):
        raise Failure("Some requests are decided differently now.")


def _compared(session: Session, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last line of a replay, showing how far it is meanwhile."""
    with session.progress("Deciding again") as tell:
        for line in session.api.events("/api/routing/replay", method="POST", body=body):
            match line["type"]:
                case "progress":
                    tell(line["records"], line["total"])
                case "comparison":
                    found: dict[str, Any] = line
                    return found
                case "error":
                    raise Failure(line["error"]["message"])
                case _:
                    pass  # of a newer server
    raise Failure("The server ended before the comparison was made.")


def _print_comparison(comparison: Mapping[str, Any]) -> None:
    requests, identical = comparison["requests"], comparison["identical"]
    click.echo(
        f"{requests} requests, {identical} decided alike; another head for {comparison['changedHead']},"
        f" another target for {comparison['changedFinal']}, {comparison['assumed']} with an assumed outcome."
    )
    if comparison["skipped"] or comparison["unreadable"]:
        click.echo(f"{comparison['skipped']} records were too large, {comparison['unreadable']} could not be read.")
    rows = [
        {"figure": figure, "before": _at(comparison, before), "after": _at(comparison, after)}
        for figure, before, after in _FIGURES
    ]
    print_rows(Form.TABLE, "figures", rows, _COMPARISON_COLUMNS)
    if comparison["samples"]:
        click.echo()
        samples = [
            {**sample, "before": _target(sample["before"]), "after": _target(sample["after"])}
            for sample in comparison["samples"]
        ]
        print_rows(Form.TABLE, "samples", samples, _SAMPLE_COLUMNS)
    checked = comparison.get("verify")
    if checked is not None:
        click.echo()
        click.echo(
            f"Decided again: {checked['matched']} alike, {checked['mismatched']} not,"
            f" {checked['notReplayable']} cannot be."
        )
        for one in checked["mismatches"]:
            click.echo(f"{one['requestId']}: {one['difference']} differs (recorded by {one['gatewayVersion']})")


def _at(document: Mapping[str, Any], path: str) -> str:
    value: Any = document
    for name in path.split("."):
        value = value[name]
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def _target(candidate: Mapping[str, str] | None) -> str:
    return "" if candidate is None else f"{candidate['target']} ({candidate['connection']})"


def _policy(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise Failure(f"{path.name}, line {error.lineno}: {error.msg}.", Exit.MISUSE) from None
    except (ValueError, RecursionError):
        raise Failure(f"{path.name} is not valid JSON.", Exit.MISUSE) from None
    if not isinstance(document, dict):
        raise Failure("The policy must be a JSON object.", Exit.MISUSE)
    return document


def _tokens_of(path: Path) -> int:
    from omniroute.formats.token_count import estimate

    return estimate(_read(path))


def _read(path: Path) -> str:
    if path.stat().st_size > _LARGEST_FILE:
        raise Failure(f"{path.name} is larger than {_LARGEST_FILE >> 20} MiB.", Exit.MISUSE)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{path.name} is not UTF-8 text.", Exit.MISUSE) from None
