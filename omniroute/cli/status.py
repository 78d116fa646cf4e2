"""`omniroute status`: is the server running, and how is it?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_LABELS: Final = {
    "state": "State",
    "context": "Context",
    "address": "Address",
    "dataDir": "Data",
    "version": "Version",
    "pid": "Process",
    "workers": "Workers",
    "startedAt": "Started",
    "uptimeSeconds": "Up seconds",
    "memoryMb": "Memory MB",
    "activeRequests": "Active requests",
}


@click.command("status")
@pass_session
def command(session: Session) -> None:
    """Say whether the server is running, where, since when; exit code 3 if it is not."""
    target = session.target
    document: dict[str, Any] = {"running": True, "healthy": True, "address": target.base_url}
    document["context"] = target.context.name if target.context is not None else None
    if target.is_here:
        document |= _here(session)
    try:
        document |= _told(session)
    except Failure as error:
        if not target.is_here:
            raise
        session.notice(f"Note: nothing more is known of it. {error.message}")
    shown = {**document, "state": _state(document)}
    if session.form is Form.TABLE:
        session.print_fields(shown, {name: label for name, label in _LABELS.items() if shown.get(name) is not None})
    else:
        session.print_fields(document, _LABELS)


def _state(document: Mapping[str, Any]) -> str:
    if not document["healthy"]:
        return f"answers with status {document['httpStatus']}"
    told = document.get("status")
    return "running" if told in (None, "healthy") else f"running, {told}"


def _here(session: Session) -> dict[str, Any]:
    """Return what the server of this machine has left for us to find.

    Raises:
        Failure: it does not answer.
    """
    from omniroute.cli.output import iso_time
    from omniroute.cli.running import address_of, announcement, ask

    settings = session.local_settings()
    address = address_of(settings)
    answer = ask(address, "/healthz")
    if answer is None:
        raise Failure(f"No server answers at {address}. Start it with: omniroute server", Exit.NOT_RUNNING)
    said = announcement(settings.runtime_dir)
    started_at = said.started_at if said else None
    return {
        "healthy": answer.status == 200,
        "httpStatus": answer.status,
        "address": address,
        "dataDir": str(settings.data_dir),
        "version": said.version if said else None,
        "pid": said.pid if said else None,
        "startedAt": iso_time(started_at),
        "uptimeSeconds": max(0, int(time.time() - started_at)) if started_at is not None else None,
    }


def _told(session: Session) -> dict[str, Any]:
    health = session.server.get("/api/monitoring/health")
    system = health["system"]
    told = {name: system.get(name) for name in ("version", "memoryMb", "workers") if system.get(name) is not None}
    if not session.target.is_here:
        told["uptimeSeconds"] = system.get("uptimeSec")
    told["status"] = health["status"]
    told["activeRequests"] = len(session.server.get("/api/usage/active")["active"])
    return told
