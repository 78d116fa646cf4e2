"""`omniroute chat`: one turn through the gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form, print_document
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/v1/chat/completions"


@click.command("chat")
@click.argument("prompt", required=False)
@click.option("-m", "--model", metavar="MODEL", help="Any model name. Default: the server's default combo.")
@click.option("--system", metavar="TEXT", help="A system message before it.")
@click.option(
    "--file", "files", multiple=True, metavar="FILE", help="A text file to put before the prompt; repeatable."
)
@click.option("--stdin", is_flag=True, help="Read the prompt, or what belongs to it, from standard input.")
@click.option("--no-stream", is_flag=True, help="Ask for the answer in one piece.")
@click.option("--raw", is_flag=True, help="Print the events, or the answer, as the server sends them.")
@pass_session
def command(
    session: Session,
    *,
    prompt: str | None,
    model: str | None,
    system: str | None,
    files: tuple[str, ...],
    stdin: bool,
    no_stream: bool,
    raw: bool,
) -> None:
    """Ask a model PROMPT and print its answer; what it cost and who served it goes to stderr."""
    text = "\n\n".join([*(_read(file) for file in files), *([sys.stdin.read()] if stdin else []), prompt or ""]).strip()
    if not text:
        raise Failure("There is nothing to ask: give a prompt, --file or --stdin.", Exit.MISUSE)
    body: dict[str, Any] = {"messages": [*([{"role": "system", "content": system}] if system else [])]}
    body["messages"].append({"role": "user", "content": text})
    if model is not None:
        body["model"] = model
    if no_stream or session.form is not Form.TABLE:
        _print_whole(session, body, raw=raw)
    else:
        _print_stream(session, body, raw=raw)


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read as text.", Exit.MISUSE) from error


def _print_whole(session: Session, body: Mapping[str, Any], *, raw: bool) -> None:
    answer = session.inference.send("POST", _PATH, body)
    if raw or session.form is not Form.TABLE:
        print_document(answer)
    else:
        click.echo(answer["choices"][0]["message"].get("content") or "")
    _tell(session, answer)


def _print_stream(session: Session, body: Mapping[str, Any], *, raw: bool) -> None:
    last: dict[str, Any] = {}
    wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
    for event in session.inference.events(_PATH, method="POST", body=wanted):
        if "error" in event:
            click.echo()
            raise Failure(str(event["error"].get("message", "The answer broke off.")))
        last |= {name: event[name] for name in ("model", "usage") if event.get(name)}
        if raw:
            print_document(event)
            continue
        for piece in _pieces(event):
            click.echo(piece, nl=False)
            sys.stdout.flush()
    if not raw:
        click.echo()
    _tell(session, last)


def _pieces(event: Mapping[str, Any]) -> Iterator[str]:
    for choice in event.get("choices") or ():
        text = (choice.get("delta") or {}).get("content")
        if text:
            yield text


def _tell(session: Session, answer: Mapping[str, Any]) -> None:
    usage = answer.get("usage") or {}
    parts = [str(answer.get("model") or "unknown model")]
    if usage:
        parts.append(f"{usage.get('prompt_tokens', 0)} in, {usage.get('completion_tokens', 0)} out")
    cost = usage.get("cost")
    if cost is not None:
        parts.append(f"${float(cost):.6f}")
    session.notice(" · ".join(parts))
