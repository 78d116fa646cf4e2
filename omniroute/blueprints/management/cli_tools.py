"""`/api/cli-tools`: what coding tools need to use the gateway, and setting up those of this host."""

from __future__ import annotations

from typing import Final, TypedDict
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from omniroute.blueprints import guard
from omniroute.blueprints.contract import Query, operation
from omniroute.blueprints.management.bodies import Fields, answer, flag, query_flag, text
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.errors import PermissionDenied, ValidationFailed
from omniroute.services.access import Power
from omniroute.services.client_tools import (
    SYSTEMS,
    AppliedDocument,
    Asked,
    ClientToolDocument,
    DetectedToolDocument,
    RestoredFilesDocument,
    SnippetDocument,
)

blueprint = Blueprint("management_cli_tools", __name__)

_LONGEST_URL: Final = 300
_APPLY: Final = Fields(
    text("tool", required=True, max_length=40),
    text("model", max_length=300, nullable=True),
    text("keyId", max_length=64, nullable=True),
    flag("dryRun"),
)
_UNDO: Final = Fields(text("tool", required=True, max_length=40))


class ClientToolsDocument(TypedDict):
    """The tools; `allowWrites` says whether this server may set them up on its own host."""

    tools: list[ClientToolDocument]
    allowWrites: bool


class DetectedToolsDocument(TypedDict):
    """The tools as they are on this host."""

    tools: list[DetectedToolDocument]
    allowWrites: bool


@blueprint.get("/api/cli-tools")
@operation(ClientToolsDocument)
def index() -> Response:
    """List the coding tools that can use the gateway."""
    own = container().client_tools
    return answer(ClientToolsDocument(tools=own.all(), allowWrites=own.is_writing_allowed))


@blueprint.get("/api/cli-tools/<tool>/snippet")
@operation(
    SnippetDocument,
    query=(
        Query("model", "The model to begin with; the default combo or the first model unless given."),
        Query("keyId", "The API key that the tool is to use; by its id."),
        Query("os", "The system that the tool runs on.", choices=SYSTEMS),
        Query("baseUrl", "Where the tool reaches the gateway; the server's own address unless given."),
        Query("reveal", "Show the key itself, where it can be shown again; needs scope admin.", "boolean"),
    ),
    refusals=(404,),
)
def snippet(tool: str) -> Response:
    """Show what a tool needs: files, variables, commands.

    The key is named by its environment variable and stands nowhere, unless `reveal` asks for it.
    """
    system = request.args.get("os") or SYSTEMS[0]
    if system not in SYSTEMS:
        raise ValidationFailed([{"field": "os", "message": f"must be one of {', '.join(SYSTEMS)}"}])
    is_revealing = query_flag(request, "reveal") or False
    if is_revealing:
        _require_admin()
    asked = Asked(
        tool,
        request.args.get("model") or None,
        request.args.get("keyId") or None,
        system,
        _base_url(request.args.get("baseUrl")),
        is_revealing,
    )
    return answer(container().client_tools.snippet(asked, origin()))


@blueprint.get("/api/cli-tools/detect")
@operation(DetectedToolsDocument)
def detect() -> Response:
    """Look for the tools on this host: installed, which version, and whether their files name this server.

    Each program is asked for its version with a fixed command line and given five seconds.
    """
    own = container().client_tools
    return answer(DetectedToolsDocument(tools=own.detect(), allowWrites=own.is_writing_allowed))


@blueprint.post("/api/cli-tools/apply")
@operation(AppliedDocument, body=_APPLY, refusals=(404, 409))
def apply() -> Response:
    """Write what a tool needs into the files of this host's user, keeping their text of before.

    Needs `CLI_ALLOW_CONFIG_WRITES=true`; with `dryRun` the difference is shown and nothing is written. No key is
    written: files name its environment variable.
    """
    given = _APPLY.read(request)
    asked = Asked(given["tool"], given.get("model"), given.get("keyId"))
    return answer(container().client_tools.apply(asked, origin(), is_dry_run=given.get("dryRun", False)))


@blueprint.delete("/api/cli-tools/apply")
@operation(RestoredFilesDocument, body=_UNDO, refusals=(404, 409))
def undo() -> Response:
    """Put the files of a tool back as they were before the last set-up."""
    return answer(container().client_tools.undo(_UNDO.read(request)["tool"], origin()))


def _base_url(given: str | None) -> str | None:
    if not given:
        return None
    try:
        parts = urlsplit(given)
        is_fit = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.username
    except ValueError:
        is_fit = False
    if not is_fit or len(given) > _LONGEST_URL or not given.isascii() or not given.isprintable() or " " in given:
        raise ValidationFailed([{"field": "baseUrl", "message": "must be an address such as https://ai.example.com"}])
    return given


def _require_admin() -> None:
    actor = guard.actor()
    if actor.power < Power.ADMIN:
        held = actor.power.name.lower()
        raise PermissionDenied(
            f"This credential has scope '{held}'; showing a key needs 'admin'.",
            code="scope_insufficient",
            extras={"held": held, "required": "admin"},
        )
