"""`omniroute simulate`, `explain` and `replay`: what routing would do, what it did, what it would have done."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.keys import find
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import Form, notice, output_options, print_document, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omniroute.container import Container

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
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
@click.option("--session", help="Session key that the request carries.")
@click.option(
    "--prompt-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the prompt, whose length is estimated.",
)
@data_dir_option
@output_options
def simulate(
    *,
    model: str,
    tokens: int | None,
    tools: bool,
    vision: bool,
    key: str | None,
    session: str | None,
    prompt_file: Path | None,
    data_dir: str | None,
    form: Form,
) -> None:
    """Show who would be tried for a request, in which order; none is sent."""
    from omniroute.services.decisions import USUAL_PROMPT, Hypothesis

    if tokens is not None and prompt_file is not None:
        raise click.UsageError("Give --tokens or --prompt-file, not both.")
    if prompt_file is not None:
        tokens = _tokens_of(prompt_file)
    with open_services(data_dir) as services:
        _load(services)
        asked = Hypothesis(
            model=model,
            prompt_tokens=USUAL_PROMPT if tokens is None else tokens,
            has_tools=tools,
            has_images=vision,
            api_key_id=None if key is None else find(services.keys, key).id,
            session_id=session,
        )
        found = services.decisions.simulate(asked)
    if form is Form.JSON:
        print_document(found)
    else:
        resolved = found["resolved"]
        notice(f"{model} is {resolved['name']} ({resolved['kind']}), strategy {resolved['strategy']}.")
        for warning in found["warnings"]:
            notice(f"Warning: {warning}")
        print_rows(form, "path", found["path"], _PATH_COLUMNS)
    if not any(row["eligible"] for row in found["path"]):
        raise Failure("Nothing could serve this request.")


@click.command("explain")
@click.argument("request_id")
@data_dir_option
@output_options
def explain(request_id: str, data_dir: str | None, form: Form) -> None:
    """Say in words how a request was routed: who was tried, who was left out, and why."""
    from omniroute.routing import decision_document
    from omniroute.routing import explain as explaining

    with open_services(data_dir) as services:
        record = services.decisions.get(request_id)
    if form is Form.TABLE:
        click.echo(explaining.text(record), nl=False)
    else:
        print_document(decision_document.document(record))


@click.command("replay")
@click.option("--since", default="24h", show_default=True, help="How long ago (30m, 24h, 7d), or an ISO 8601 time.")
@click.option("--until", help="The same; up to then. Default: now.")
@click.option("--model", help="Only requests for this model, or served by it.")
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with the other policy. Without it nothing differs.",
)
@click.option("--verify", is_flag=True, help="Also decide each request again and compare; a difference ends with 1.")
@data_dir_option
@output_options
def replay(
    *,
    since: str,
    until: str | None,
    model: str | None,
    policy: Path | None,
    verify: bool,
    data_dir: str | None,
    form: Form,
) -> None:
    """Replay recorded requests against another policy. Nothing is sent and nothing is changed."""
    from omniroute.services.decisions import Range

    now = time.time()
    wanted = Range(_moment(since, now, "--since"), None if until is None else _moment(until, now, "--until"), model)
    document = {} if policy is None else _policy(policy)
    comparison: dict[str, Any] = {}
    with open_services(data_dir) as services:
        prepared = services.decisions.prepare(wanted, document, is_verifying=verify)
        for line in services.decisions.run(prepared, _no_pause):
            if line["type"] == "comparison":
                comparison = line
            elif line["records"]:
                notice(f"{line['records']} of {line['total']} records")
    if form is Form.TABLE:
        _print_comparison(comparison)
    else:
        print_document(comparison)
    if comparison.get("verify", {}).get("mismatched"):
        raise Failure("Some requests are decided differently now.")


def _load(services: Container) -> None:
    """Take over what the workers have stored, as a worker does when it starts."""
    routing = services.routing
    routing.board.load()
    routing.memory.load()
    routing.figures.load()


def _no_pause() -> None:
    """Nobody else waits for this process."""


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


def _moment(text: str, now: float, option: str) -> float:
    """Return epoch seconds of a time, or of so long ago."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now - int(ago[1]) * _UNITS_S[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Failure(f"{option} must be a length such as 24h or an ISO 8601 time.", Exit.MISUSE) from None


def _policy(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_read(path))
    except ValueError as error:
        raise Failure(f"The policy is not valid JSON: {error}", Exit.MISUSE) from None
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
