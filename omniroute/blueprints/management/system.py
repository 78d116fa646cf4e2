"""`/api/system`, `/api/network`, `/api/restart` and `/api/shutdown`: the server as a program."""

from __future__ import annotations

import platform
import sys
from typing import TypedDict

from flask import Blueprint, Response

from omniroute import __version__
from omniroute.blueprints.contract import operation
from omniroute.blueprints.management.bodies import answer
from omniroute.blueprints.management.origin import origin
from omniroute.container import container
from omniroute.services.network import own_addresses, reachable

blueprint = Blueprint("management_system", __name__)


class VersionDocument(TypedDict):
    """What runs. The server asks nobody for newer releases."""

    version: str
    python: str
    platform: str
    database: str
    databaseVersion: str


class BindDocument(TypedDict):
    """Where the server listens."""

    host: str
    port: int


class AddressDocument(TypedDict):
    """An address of the server; its scope is `configured`, `loopback`, `private` or `public`."""

    url: str
    scope: str


class NetworkDocument(TypedDict):
    """Where the server listens, and the addresses that this means.

    Pages of `allowedOrigins` may send mutations, as those of the server itself; pages of `corsAllowedOrigins` may read
    answers of models. Both are set by variables of the environment alone.
    """

    bind: BindDocument
    basePath: str
    isLoopbackOnly: bool
    isBehindProxy: bool
    addresses: list[AddressDocument]
    allowedOrigins: list[str]
    corsAllowedOrigins: list[str]


class AcceptedOrderDocument(TypedDict):
    """The order was passed on; what runs is finished first."""

    success: bool
    message: str


@blueprint.get("/api/system/version")
@operation(VersionDocument)
def version() -> Response:
    """Show what runs.

    The server asks nobody for newer releases.
    """
    own = container()
    return answer(
        VersionDocument(
            version=__version__,
            python=platform.python_version(),
            platform=f"{sys.platform}-{platform.machine()}",
            database="sqlite" if own.database.is_sqlite else "postgresql",
            databaseVersion=own.database_care.facts().version,
        )
    )


@blueprint.get("/api/network/info")
@operation(NetworkDocument)
def network() -> Response:
    """Show where the server listens and by which addresses it can be reached."""
    settings = container().settings
    found = reachable(settings, own_addresses())
    return answer(
        NetworkDocument(
            bind=BindDocument(host=settings.host, port=settings.port),
            basePath=settings.base_path,
            isLoopbackOnly=settings.is_loopback_bind,
            isBehindProxy=settings.trust_proxy is not None,
            addresses=[AddressDocument(url=one.url, scope=one.scope) for one in found],
            allowedOrigins=list(settings.allowed_origins),
            corsAllowedOrigins=list(settings.cors_allowed_origins),
        )
    )


@blueprint.post("/api/restart")
@operation(AcceptedOrderDocument, status=202, refusals=(409,))
def restart() -> Response:
    """Build the application anew and replace all workers; requests in progress are finished by those of now.

    Only where `omniroute server` runs the workers. Variables of the environment stay as they were at the start; `.env`
    files and stored settings are read again.
    """
    container().arbiter.restart(origin())
    return answer(AcceptedOrderDocument(success=True, message="The workers are being replaced."), 202)


@blueprint.post("/api/shutdown")
@operation(AcceptedOrderDocument, status=202, refusals=(409,))
def shutdown() -> Response:
    """Stop the server when the requests in progress are finished, within the time for that.

    Only where `omniroute server` runs the workers.
    """
    container().arbiter.stop(origin())
    return answer(AcceptedOrderDocument(success=True, message="The server stops."), 202)
