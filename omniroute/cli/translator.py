"""`omniroute translator`: formats turned into one another, requests sent with every stage shown, the test bench."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.finding import find_one
from omniroute.cli.jobs import follow
from omniroute.cli.output import Form, print_document
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/api/translator"
_LARGEST_FILE: Final = 8 << 20
_FORMATS: Final = ("openai-chat", "openai-responses", "anthropic", "gemini", "ollama")
_FORMAT: Final = click.Choice(_FORMATS)
_CASES: Final = (
    "text",
    "system",
    "tools",
    "parallel_tools",
    "image",
    "thinking",
    "json_schema",
    "stream",
    "error",
)
_DETECTED: Final = {"format": "Format", "direction": "Direction", "confidence": "Confidence"}
_CELLS: Final = {
    "case": "Case",
    "format": "Client format",
    "target": "Target",
    "state": "State",
    "durationMs": "ms",
    "reason": "Reason",
}

_file: Final = click.option(
    "--file",
    "file",
    default="-",
    metavar="FILE",
    help="Where the body is read from. Default: standard input.",
)
_source: Final = click.option("--from", "source", type=_FORMAT, required=True, help="Format of the body.")
_target: Final = click.option("--to", "target", type=_FORMAT, required=True, help="Format that is wanted.")


@click.group("translator")
def command() -> None:
    """Turn formats into one another, send a request with every stage shown, run the test bench."""


@command.command("detect")
@_file
@pass_session
def detect(session: Session, file: str) -> None:
    """Say which format a body is written in."""
    found = session.api.send("POST", f"{_PATH}/detect", {"body": _read(file)})
    session.print_fields(found, _DETECTED)
    if session.form is Form.TABLE:
        for reason in found["reasons"]:
            session.notice(f"  {reason}")
    if found["format"] is None:
        raise Failure("No format is recognised.")


@command.command("translate")
@_source
@_target
@_file
@click.option("--model", metavar="M", help="The target, whose abilities count. Default: any of the format's vendor.")
@click.option("--response", "is_response", is_flag=True, help="The body is an answer, not a request.")
@pass_session
def translate(session: Session, *, source: str, target: str, file: str, model: str | None, is_response: bool) -> None:
    """Print a body in another format; what is lost goes to stderr. Nothing is sent."""
    body: dict[str, Any] = {"from": source, "to": target, "body": _read(file)}
    body["direction"] = "response" if is_response else "request"
    if model is not None:
        body["model"] = model
    found = session.api.send("POST", f"{_PATH}/translate", body)
    print_document(found if session.form is Form.JSON else found["result"])
    _tell_losses(session, found["losses"])


@command.command("stream")
@_source
@_target
@_file
@click.option("--folded", is_flag=True, help="Print the whole answer in place of the frames.")
@pass_session
def stream(session: Session, *, source: str, target: str, file: str, folded: bool) -> None:
    """Print the frames of a stream in another format; what is lost goes to stderr."""
    found = session.api.send("POST", f"{_PATH}/transform-stream", {"from": source, "to": target, "sse": _read(file)})
    if session.form is Form.JSON:
        print_document(found)
    elif folded:
        print_document(found["folded"] or {})
    else:
        joint = "\n" if target == "ollama" else "\n\n"
        for frame in found["frames"]:
            click.echo(f"{frame}{joint}", nl=False)
    _tell_losses(session, found["losses"])
    if found["error"] is not None:
        raise Failure(found["error"])


@command.command("send")
@click.option("--format", "wire_format", type=_FORMAT, required=True, help="Format of the request.")
@_file
@click.option("--model", metavar="M", help="The model, in the place of the body's own.")
@click.option("--stream/--no-stream", "is_stream", default=None, help="Whether to stream, whatever the body says.")
@click.option("--key", help="Id or name of the API key on whose account it goes. Default: the operator's own.")
@pass_session
def send(
    session: Session, *, wire_format: str, file: str, model: str | None, is_stream: bool | None, key: str | None
) -> None:
    """Send a request through the gateway: its answer is printed, its way is told on stderr; all of it with --json."""
    body: dict[str, Any] = {"format": wire_format, "body": _read(file), "model": model, "stream": is_stream}
    if key is not None:
        body["keyId"] = find_one(session.api.rows("/api/keys", "keys"), key, "API key")["id"]
    found = session.api.send("POST", f"{_PATH}/send", body)
    if session.form is Form.TABLE:
        joint = "\n" if wire_format == "ollama" else "\n\n"
        click.echo(joint.join(piece["text"] for piece in found["clientResponse"]["frames"]))
        _tell_way(session, found)
    else:
        print_document(found)
    if found["error"] is not None:
        raise Failure(found["error"]["message"])


@command.command("bench")
@click.option("--case", "cases", multiple=True, type=click.Choice(_CASES), help="Only these; repeatable.")
@click.option("--format", "formats", multiple=True, type=_FORMAT, help="Only these client formats; repeatable.")
@click.option("--target", "targets", multiple=True, type=_FORMAT, help="Only these formats of targets; repeatable.")
@click.option("--live", "providers", multiple=True, metavar="MODEL", help="Ask this model or provider; repeatable.")
@click.option("--estimate", is_flag=True, help="Only say what a live run may cost at most.")
@pass_session
def bench(
    session: Session,
    *,
    cases: tuple[str, ...],
    formats: tuple[str, ...],
    targets: tuple[str, ...],
    providers: tuple[str, ...],
    estimate: bool,
) -> None:
    """Ask every case in every format of every target, and print what came of it.

    Without --live nobody is asked: a simulated provider answers. With it every cell is a request that costs something.
    """
    body: dict[str, Any] = {"cases": cases, "formats": formats, "targets": targets}
    if providers:
        body |= {"live": True, "providers": providers}
    if providers or estimate:
        cost = session.api.send("POST", f"{_PATH}/bench", {**body, "estimateOnly": True})
        if estimate:
            session.print_fields(cost, {"requests": "Requests", "estimateUsd": "At most, USD", "unpriced": "No price"})
            return
        session.confirm(f"Send {cost['requests']} requests, for at most ${cost['estimateUsd']}?")
    found = follow(session, session.api.send("POST", f"{_PATH}/bench", body), "The test bench")
    if session.form is Form.JSON:
        print_document(found)
    else:
        session.print_rows("cells", found["cells"], _CELLS)
    session.notice(f"{found['ok']} ok, {found['failed']} failed, {found['notSupported']} not supported.")
    if found["failed"]:
        raise Failure(f"{found['failed']} cells failed.")


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read(_LARGEST_FILE + 1) if file == "-" else Path(file).expanduser().read_bytes()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}.", Exit.MISUSE) from error
    if len(data) > _LARGEST_FILE:
        raise Failure(f"{file} is larger than {_LARGEST_FILE >> 20} MiB.", Exit.MISUSE)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8.", Exit.MISUSE) from error


def _tell_losses(session: Session, losses: Iterable[Mapping[str, Any]]) -> None:
    for loss in losses:
        session.notice(f"Lost: {loss['path']}. {loss['reason']}")


def _tell_way(session: Session, found: Mapping[str, Any]) -> None:
    for attempt in found["attempts"]:
        answered = attempt["response"]
        status = attempt["error"] if answered is None else answered["status"]
        how = "translated to" if attempt["translated"] else "in"
        session.notice(
            f"{attempt['number']}. {attempt['provider']}/{attempt['model']}, {how} {attempt['format']}: {status}"
        )
    _tell_losses(session, found["losses"])
    usage, cost = found["usage"], found["cost"]
    tokens = json.dumps({name: usage[name] for name in ("input", "output", "reasoning") if usage[name] is not None})
    paid = cost["kind"] if cost["usd"] is None else f"${cost['usd']} ({cost['kind']})"
    session.notice(f"{found['timings']['totalMs']} ms · tokens {tokens} · {paid}")
