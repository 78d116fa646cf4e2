"""CLI Tools: what each coding tool needs to use this server, and setting up those of this machine."""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import LazyString, ngettext
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, model_names, named
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.home import base_url
from omniroute.blueprints.dashboard.rendering import done, failed, page
from omniroute.errors import NotFound

_SYSTEMS: Final[tuple[tuple[str, str | LazyString], ...]] = (
    ("linux", "Linux"),
    ("macos", "macOS"),
    ("windows", _l("Windows (PowerShell)")),
)
_PROFILED: Final = ("claude", "codex")
"""Tools for which `omniroute configure` writes a profile of one model."""
_ELSEWHERE: Final = "local_only"
_NAMES: Final = {"os": "system", "baseUrl": "address", "keyId": "key"}


@blueprint.get("/dashboard/cli-tools")
def cli_tools() -> Response:
    """Show the tools, or what one of them needs."""
    if "tool" in request.args:
        return _tool_page(request.args["tool"])
    known = api.get("/api/cli-tools")
    is_looking = request.headers.get("HX-Target") == "found" or "detect" in request.args
    found, reason = _found() if is_looking else (None, "")
    return page(
        "dashboard/cli_tools.html",
        blocks=("found",),
        tools=known["tools"],
        allows_writes=known["allowWrites"],
        is_looking=is_looking,
        found=found,
        reason=reason,
    )


@blueprint.post("/dashboard/cli-tools/apply")
def apply_cli_tool() -> Response:
    """Write what a tool needs into its files on this machine."""
    tool, model = request.form.get("tool", ""), request.form.get("model", "").strip()
    back = url_for("dashboard.cli_tools", tool=tool, model=model or None)
    try:
        applied = api.post("/api/cli-tools/apply", {"tool": tool, "model": model or None})
    except Refused as refused:
        return failed(refused, back)
    count = len(applied["written"])
    if not count:
        return done(_("Nothing had to be changed."), back)
    return done(ngettext("%(num)s file is written.", "%(num)s files are written.", count), back)


@blueprint.post("/dashboard/cli-tools/undo")
def undo_cli_tool() -> Response:
    """Put the files of a tool back as they were."""
    tool = request.form.get("tool", "")
    back = url_for("dashboard.cli_tools", tool=tool)
    try:
        restored = api.delete("/api/cli-tools/apply", {"tool": tool})["restored"]
    except Refused as refused:
        return failed(refused, back)
    return done(
        ngettext("%(num)s file is as it was before.", "%(num)s files are as they were before.", len(restored)), back
    )


def _tool_page(tool_id: str) -> Response:
    args = request.args
    tools = api.get("/api/cli-tools")
    tool = next((one for one in tools["tools"] if one["id"] == tool_id), None)
    if tool is None:
        raise NotFound(_("There is no tool of this name."))
    form = FormState.of(args)
    path = f"/api/cli-tools/{api.segment(tool_id)}/snippet"
    wanted = {"model": args.get("model", "").strip(), "os": args.get("system")}
    try:
        snippet = api.get(
            path,
            **wanted,
            keyId=named.key_id(args.get("key", "")),
            baseUrl=args.get("address", "").strip() or base_url(),
        )
    except Refused as refused:
        if not refused.faults and not (refused.http_status == 404 and args.get("key")):
            raise
        faults = {_NAMES.get(name, name): message for name, message in refused.faults.items()}
        form = FormState(args, faults or {"key": refused.message}, refused.message, refused.error_code)
        snippet = None
    is_looking = request.headers.get("HX-Target") == "host" or "preview" in args
    return page(
        "dashboard/cli_tool.html",
        blocks=("host",),
        status=200 if snippet else 400,
        tool=tool,
        form=form,
        snippet=snippet,
        environment=_environment(snippet, args.get("system") == "windows") if snippet else "",
        address=args.get("address", "").strip() or base_url(),
        systems=_SYSTEMS,
        models=model_names.offered(),
        keys=named.key_names(),
        commands=_commands(tool_id, args.get("model", "").strip()),
        allows_writes=tools["allowWrites"],
        is_looking=is_looking,
        host=_host(tool_id, args.get("model", "").strip()) if is_looking and snippet else None,
    )


def _commands(tool_id: str, model: str) -> str:
    """Return what is typed on the machine of the tool, where this program is there too."""
    address = request.args.get("address", "").strip() or base_url()
    chosen = f" --model {_quoted(model)}" if model else ""
    lines = [f"omniroute connect {_quoted(address)}", f"omniroute setup-{tool_id}{chosen}"]
    if tool_id in _PROFILED:
        lines.append(f"omniroute configure {tool_id}{chosen}")
    return "\n".join(lines)


def _environment(snippet: dict[str, Any], is_windows: bool) -> str:
    """Return the variables as a shell takes them; that of the key itself is among the commands."""
    given = {name: value for name, value in snippet["environment"].items() if name != snippet["keyVariable"]}
    form = '$env:{} = "{}"' if is_windows else 'export {}="{}"'
    return "\n".join(form.format(name, value) for name, value in given.items())


def _quoted(text: str) -> str:
    is_plain = all(letter.isalnum() or letter in "-_./:@" for letter in text) and text.isascii()
    return text if is_plain else "'" + text.replace("'", "'\\''") + "'"


def _found() -> tuple[dict[str, dict[str, Any]] | None, str]:
    """Return the tools as they are on this machine by id, or why that is not known."""
    try:
        rows = api.get("/api/cli-tools/detect")["tools"]
    except Refused as refused:
        if refused.error_code != _ELSEWHERE:
            raise
        return None, _("You look at this page from another machine, and tools are looked for on the server's own.")
    return {row["id"]: row for row in rows}, ""


def _host(tool_id: str, model: str) -> dict[str, Any]:
    """Return how a tool is on this machine, and what setting it up would change."""
    found, reason = _found()
    if found is None:
        return {"reason": reason}
    state = found.get(tool_id)
    if state is None or not state["files"]:
        return {"state": state}
    try:
        preview = api.post("/api/cli-tools/apply", {"tool": tool_id, "model": model or None, "dryRun": True})
    except Refused as refused:
        return {"state": state, "fault": refused.message}
    return {"state": state, "preview": preview}
