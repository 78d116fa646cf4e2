"""`omniroute models`: what the gateway can serve, and models that the operator adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_COLUMNS: Final = {
    "model": "Model",
    "provider": "Provider",
    "type": "Type",
    "context": "Context",
    "input": "In $/1M",
    "output": "Out $/1M",
    "active": "Active",
}
_TEST_COLUMNS: Final = {
    "run": "Run",
    "ok": "Result",
    "ttftMs": "TTFT ms",
    "latencyMs": "Total ms",
    "tokensPerSec": "Tokens/s",
    "error": "Error",
}


class _ModelsGroup(AliasGroup):
    """`omniroute models` alone, or with the name of a provider, lists."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args or self.get_command(ctx, args[0]) is None:
            args = ["list", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take options that stand directly behind the group for those of the list."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("models", cls=_ModelsGroup, invoke_without_command=True, no_args_is_help=False)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, add, hide and test models; without a command it lists them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@command.command("list")
@click.argument("provider", required=False)
@click.option("--search", metavar="TEXT", help="Only models that hold this text.")
@click.option("--type", "kind", metavar="T", help="Only models of this type, such as chat or embedding.")
@click.option("--refresh", is_flag=True, help="Read the providers' own lists first.")
@click.option("--all", "is_all", is_flag=True, help="Also models that nothing connected serves, and hidden ones.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most.")
@pass_session
def list_models(
    session: Session,
    *,
    provider: str | None = None,
    search: str | None = None,
    kind: str | None = None,
    refresh: bool = False,
    is_all: bool = False,
    limit: int | None = None,
) -> None:
    """List the models that can be asked, of all providers or of one."""
    if refresh:
        _refresh(session, provider)
    rows = session.api.rows(
        "/api/models", "models", limit=limit, provider=provider, q=search, type=kind, active=None if is_all else True
    )
    if session.form in (Form.TABLE, Form.CSV):
        rows = [_row(row) for row in rows]
    session.print_rows("models", rows, _COLUMNS)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    price = row.get("price") or {}
    context = row.get("contextLength")
    assumed = "~" if row.get("contextSource") == "default" else ""
    return {
        **row,
        "model": row["id"],
        "context": f"{assumed}{context}" if context else None,
        "input": price.get("input"),
        "output": price.get("output"),
    }


def _refresh(session: Session, provider: str | None) -> None:
    rows = session.api.rows("/api/providers", "connections", provider=provider, active=True)
    with session.progress("Reading model lists") as report:
        for number, row in enumerate(rows):
            report(number, len(rows))
            found = session.api.send("POST", f"/api/providers/{row['id']}/sync-models")
            session.notice(f"{row['name']}: {found['total']} models, {found['added']} new, {found['removed']} gone")


@command.command("add")
@click.argument("provider")
@click.argument("model")
@click.option("--name", help="What people call it.")
@click.option("--context", "context_tokens", type=click.IntRange(1), metavar="N", help="Its context window in tokens.")
@click.option("--max-output", type=click.IntRange(1), metavar="N", help="The most tokens it answers with.")
@click.option("--type", "kind", metavar="T", help="Its type. Default: chat.")
@click.option("--vision/--no-vision", default=None, help="Whether it reads images.")
@click.option("--tools/--no-tools", default=None, help="Whether it calls tools.")
@pass_session
def add(
    session: Session,
    *,
    provider: str,
    model: str,
    name: str | None,
    context_tokens: int | None,
    max_output: int | None,
    kind: str | None,
    vision: bool | None,
    tools: bool | None,
) -> None:
    """Add a model of PROVIDER that no list knows, or say more about one."""
    body = {
        "provider": provider,
        "modelId": model,
        "modelName": name,
        "type": kind,
        "contextLength": context_tokens,
        "maxOutputTokens": max_output,
        "supportsVision": vision,
        "supportsTools": tools,
    }
    body = {field: value for field, value in body.items() if value is not None}
    made = session.api.send("POST", "/api/provider-models", body)["model"]
    session.notice(f"Added {made['provider']}/{made['modelId']}.")
    if session.form is not Form.TABLE:
        session.print_fields(made, {})


@command.command("remove")
@click.argument("provider")
@click.argument("model")
@pass_session
def remove(session: Session, provider: str, model: str) -> None:
    """Remove a model that was added by hand."""
    session.confirm(f"Remove the model {model} of {provider}?")
    session.api.send("DELETE", "/api/provider-models", provider=provider, model=model)
    session.notice(f"Removed {provider}/{model}.")


@command.command("hide")
@click.argument("provider")
@click.argument("models", nargs=-1, required=True)
@pass_session
def hide(session: Session, provider: str, models: tuple[str, ...]) -> None:
    """Leave models of PROVIDER out of all lists; they are not served either."""
    _set_hidden(session, provider, models, is_hidden=True)


@command.command("show")
@click.argument("provider")
@click.argument("models", nargs=-1, required=True)
@pass_session
def show(session: Session, provider: str, models: tuple[str, ...]) -> None:
    """List and serve hidden models again."""
    _set_hidden(session, provider, models, is_hidden=False)


def _set_hidden(session: Session, provider: str, models: tuple[str, ...], *, is_hidden: bool) -> None:
    body = {"modelIds": list(models), "isHidden": is_hidden}
    found = session.api.send("PATCH", "/api/provider-models", body, provider=provider)
    session.notice(f"{'Hid' if is_hidden else 'Shows'} {found['updated']} of {len(models)}.")


@command.command("test")
@click.argument("model")
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True, metavar="N", help="How often.")
@click.pass_context
@pass_session
def test(session: Session, ctx: click.Context, model: str, repeat: int) -> None:
    """Make a small call to MODEL and show how long it took; exit code 1 if one fails."""
    rows = []
    with session.progress(f"Testing {model}") as report:
        for run in range(1, repeat + 1):
            result = session.server.send("POST", "/api/models/test", {"model": model})
            rows.append({"run": run, **result})
            report(run, repeat)
    is_good = all(row["ok"] for row in rows)
    if session.form is Form.TABLE:
        rows = [row | {"ok": "ok" if row["ok"] else "failed"} for row in rows]
    session.print_rows("results", rows, _TEST_COLUMNS)
    ctx.exit(0 if is_good else 1)
