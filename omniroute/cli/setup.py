"""`omniroute setup`: from nothing to a gateway that answers: password, first account, first combo, first key."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form, print_document
from omniroute.cli.providers import find_provider
from omniroute.cli.session import Session, pass_session, read_secret
from omniroute.cli.session import is_near as is_near_host

_FIRST_KEY: Final = "default"
_TOOLS: Final = ("claude", "codex", "opencode", "gemini", "cursor", "none")
_LIST_COLUMNS: Final = {"id": "Id", "name": "Name", "tier": "Tier", "variable": "Key variable", "found": "Found"}


@dataclass(slots=True)
class Plan:
    """What is to be set up; None and empty things are left as they are."""

    password: str | None = None
    provider: str | None = None
    provider_name: str | None = None
    api_key: str | None = None
    default_model: str | None = None
    base_url: str | None = None
    tests_provider: bool = False
    combos: dict[str, list[str]] = field(default_factory=dict)
    key_name: str | None = None


@click.command("setup")
@click.option("--non-interactive", is_flag=True, help="Ask nothing: take what options and the environment say.")
@click.option("--password-stdin", is_flag=True, help="Read the management password from standard input (first line).")
@click.option("--provider", metavar="ID", help="Provider of the first account; a new name together with a base URL.")
@click.option("--provider-name", metavar="NAME", help="Name of that account. Default: the provider's id.")
@click.option("--api-key-stdin", is_flag=True, help="Read its key from standard input (the line after the password).")
@click.option("--default-model", metavar="MODEL", help="The model to use where a request names none.")
@click.option(
    "--provider-base-url", metavar="URL", help="Base URL of an endpoint of your own that speaks OpenAI's format."
)
@click.option("--test-provider", is_flag=True, help="Test the account, and keep it only if that works.")
@click.option("--combo", "combos", multiple=True, metavar="NAME=MODEL,MODEL", help="A combo to make; repeatable.")
@click.option("--key", "key_name", metavar="NAME", help="Make an API key of this name, unless there is one.")
@click.option("--list", "lists", is_flag=True, help="List the providers with the variables their keys are read from.")
@pass_session
def command(
    session: Session,
    *,
    non_interactive: bool,
    password_stdin: bool,
    provider: str | None,
    provider_name: str | None,
    api_key_stdin: bool,
    default_model: str | None,
    provider_base_url: str | None,
    test_provider: bool,
    combos: tuple[str, ...],
    key_name: str | None,
    lists: bool,
) -> None:
    """Set up this installation: password, first account, first combo, first API key.

    Without --non-interactive it asks step by step. It can be run again: what exists is kept or brought up to date.
    """
    session.refuse_remote("Setting up")
    if lists:
        session.print_rows("providers", _found_in_environment(session), _LIST_COLUMNS)
        return
    if not non_interactive and not sys.stdin.isatty():
        raise Failure("Nobody can be asked here: add --non-interactive and say what is wanted by options.", Exit.MISUSE)
    plan = Plan(
        provider=provider,
        provider_name=provider_name,
        default_model=default_model,
        base_url=provider_base_url,
        tests_provider=test_provider,
        combos=dict(_parsed_combo(text) for text in combos),
        key_name=key_name,
    )
    if password_stdin:
        plan.password = read_secret(stdin=True, missing="There is no password on standard input.")
    elif os.environ.get("INITIAL_PASSWORD"):
        plan.password = os.environ["INITIAL_PASSWORD"]
    if api_key_stdin:
        plan.api_key = read_secret(stdin=True, missing="There is no key of the provider on standard input.")
    if not non_interactive:
        _ask(session, plan)
    _carry_out(session, plan)
    if not non_interactive:
        _show_next_step()


def _parsed_combo(text: str) -> tuple[str, list[str]]:
    name, equals, models = text.partition("=")
    names = [model.strip() for model in models.split(",") if model.strip()]
    if not name or not equals or not names:
        raise Failure(f"--combo takes NAME=MODEL,MODEL, not {text!r}.", Exit.MISUSE)
    return name, names


# --- asking ----------------------------------------------------------------------------------------------------------


def _ask(session: Session, plan: Plan) -> None:
    """Fill in what options did not say, step by step."""
    session.notice("Press Enter to accept what stands in brackets; Ctrl-C ends without a change.\n")
    if plan.password is None and click.confirm("Set a management password now?", default=True, err=True):
        plan.password = click.prompt("Management password", hide_input=True, confirmation_prompt=True, err=True)
    if plan.provider is None:
        found = [row["id"] for row in _found_in_environment(session) if row["found"]]
        if found:
            session.notice(f"Keys in the environment: {', '.join(found)}")
        default = found[0] if found else "sandbox"
        session.notice("Providers: omniroute providers available. The sandbox needs no account.")
        plan.provider = click.prompt("First provider", default=default, err=True)
        plan.tests_provider = plan.tests_provider or plan.provider != "sandbox"
    if not plan.combos and plan.default_model and click.confirm("Make a combo of models?", default=False, err=True):
        name = click.prompt("Name of the combo", default="main", err=True)
        models = click.prompt("Its models, in order, separated by commas", default=plan.default_model, err=True)
        plan.combos = dict([_parsed_combo(f"{name}={models}")])
    if plan.key_name is None and click.confirm("Make an API key for your tools?", default=True, err=True):
        plan.key_name = click.prompt("Name of the key", default=_FIRST_KEY, err=True)


def _show_next_step() -> None:
    tool = click.prompt(
        "Which tool shall use it?", type=click.Choice(_TOOLS), default="none", show_choices=True, err=True
    )
    if tool == "none":
        return
    click.echo("Put the key into OMNIROUTE_API_KEY, start the server with 'omniroute server', then:", err=True)
    click.echo(f"  omniroute setup-{tool}" if tool != "gemini" else "  omniroute snippet gemini", err=True)


def _found_in_environment(session: Session) -> list[dict[str, Any]]:
    rows = []
    for row in session.api.get("/api/providers/available")["providers"]:
        variable = _variable_of(row["id"])
        rows.append(
            {
                **{name: row[name] for name in ("id", "name", "tier")},
                "variable": variable,
                "found": bool(os.environ.get(variable)),
            }
        )
    return rows


def _variable_of(provider: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in provider.upper()) + "_API_KEY"


# --- doing -----------------------------------------------------------------------------------------------------------


def _carry_out(session: Session, plan: Plan) -> None:
    done: dict[str, Any] = {"password": _set_password(session, plan.password)}
    if plan.provider is not None:
        done["connection"] = _connect(session, plan)
    if plan.combos:
        done["combos"] = [_make_combo(session, name, models) for name, models in plan.combos.items()]
    issued = _make_key(session, plan.key_name) if plan.key_name is not None else None
    if issued is not None:
        session.notice(f"API key {issued['id']} ({issued['name']}). It is shown this once:")
        done["key"] = issued["key"]
    if session.form is not Form.TABLE:
        print_document(done)
    elif issued is not None:
        click.echo(issued["key"])
    session.notice("Ready. Start the server with: omniroute server")


def _set_password(session: Session, password: str | None) -> str:
    """Make this the password unless it is already; return what became of it."""
    from omniroute.cli.local import open_services
    from omniroute.cli.setup_access import reset

    if password is None:
        return "unchanged"
    # A first start takes it from here instead of making one up.
    with open_services(session.data_dir, {"INITIAL_PASSWORD": password}) as services:
        is_set = services.passwords.verify(password)
    if not is_set:
        reset(session, password)
    session.notice("The management password is set.")
    return "set"


def _connect(session: Session, plan: Plan) -> Mapping[str, Any] | None:
    """Add the account, or bring the one of this name up to date; None where the provider needs none."""
    provider = _provider_for(session, plan)
    known = session.api.rows("/api/providers", "connections", provider=provider["id"])
    if provider.get("configured") and not known:
        session.notice(f"{plan.provider} is always connected.")
        return None
    key = plan.api_key or os.environ.get(_variable_of(str(plan.provider))) or None
    needs_key = "none" not in provider["authKinds"]
    if needs_key and key is None:
        key = read_secret(
            prompt=f"Key for {plan.provider}: ",
            missing=f"{plan.provider} needs a key: use --api-key-stdin or set {_variable_of(str(plan.provider))}.",
        )
    name = plan.provider_name or str(plan.provider)
    body: dict[str, Any] = {"name": name}
    if key is not None:
        body["apiKey"] = key
    if plan.default_model is not None:
        body["defaultModel"] = plan.default_model
    same = next((row for row in known if row["name"] == name), None)
    if same is not None:
        made = session.api.send("PATCH", f"/api/providers/{same['id']}", body)["connection"]
        if plan.tests_provider:
            _test(session, made)
    else:
        body |= {"provider": provider["id"], **({"testFirst": True} if plan.tests_provider else {})}
        made = session.api.send("POST", "/api/providers", body)["connection"]
    session.notice(f"{'Updated' if same else 'Connected'} {plan.provider} as {made['name']!r}.")
    return {name: made[name] for name in ("id", "provider", "name", "status")}


def _provider_for(session: Session, plan: Plan) -> Mapping[str, Any]:
    """Return the provider that is meant; with a base URL one that nobody knows yet becomes an endpoint of its own."""
    wanted = str(plan.provider)
    if plan.base_url is None:
        return find_provider(session, wanted)
    nodes = session.api.rows("/api/provider-nodes", "nodes")
    node = next((row for row in nodes if wanted in (row["id"], row["prefix"], row["name"])), None)
    is_local = is_near_host(urlsplit(plan.base_url).hostname or "")
    if node is None:
        made = {"name": wanted, "prefix": wanted, "type": "openai-compatible", "baseUrl": plan.base_url}
        node = session.api.send("POST", "/api/provider-nodes", made | {"isLocal": is_local})["node"]
        session.notice(f"Added the endpoint {wanted} at {plan.base_url}.")
    elif node["baseUrl"] != plan.base_url:
        change = {"baseUrl": plan.base_url, "isLocal": is_local}
        node = session.api.send("PATCH", f"/api/provider-nodes/{node['id']}", change)["node"]
    return {"id": node["id"], "authKinds": ["apikey", "none"] if is_local else ["apikey"]}


def _test(session: Session, connection: Mapping[str, Any]) -> None:
    result = session.api.send("POST", f"/api/providers/{connection['id']}/test", {})
    if not result["valid"]:
        raise Failure(f"The account {connection['name']!r} does not work: {result.get('error', 'refused')}")


def _make_combo(session: Session, name: str, models: list[str]) -> Mapping[str, Any]:
    known = session.api.rows("/api/combos", "combos")
    same = next((row for row in known if row["name"] == name), None)
    if same is None:
        made = session.api.send("POST", "/api/combos", {"name": name, "models": models})
    else:
        made = session.api.send("PUT", f"/api/combos/{same['id']}", {"models": models})
    session.notice(f"{'Updated' if same else 'Made'} the combo {name}: {', '.join(models)}.")
    return {"id": made["id"], "name": name}


def _make_key(session: Session, name: str) -> Mapping[str, Any] | None:
    if any(row["name"] == name for row in session.api.rows("/api/keys", "keys")):
        session.notice(f"There is an API key named {name!r} already; it is kept.")
        return None
    issued: Mapping[str, Any] = session.api.send("POST", "/api/keys", {"name": name})
    return issued
