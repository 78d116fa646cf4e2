"""Backups: made, restored, deleted; exports, and the import of a file that somebody brought."""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed, page
from omniroute.blueprints.dashboard.settings import values
from omniroute.errors import NotFound

_PAGE: Final = 50
_REASONS: Final = {
    "manual": _l("By hand"),
    "scheduled": _l("By schedule"),
    "pre-migration": _l("Before an upgrade"),
    "pre-import": _l("Before an import"),
    "pre-restore": _l("Before a restore"),
    "pre-change": _l("Before a large change"),
}
_RULES: Final = {"schedule": "backupCron", "keepLatest": "backupKeepLatest", "retentionDays": "backupRetentionDays"}
"""The rules by their names in the API, and the settings that they are."""
_CHECKS: Final = (
    ("extension", _l("The name ends in .sqlite")),
    ("header", _l("It is a database of SQLite")),
    ("size", _l("It is not too large")),
    ("open", _l("It can be opened")),
    ("quick_check", _l("Its pages are whole")),
    ("integrity_check", _l("Its indexes are whole")),
    ("tables", _l("It has the tables of this server")),
    ("schema", _l("Its schema is one that this version can read")),
    ("content", _l("What it holds fits together")),
)


@blueprint.get("/dashboard/backups")
def backups() -> Response:
    """Show the backups, their rules, and the ways out and in."""
    return _backups_page()


@blueprint.post("/dashboard/backups/make")
def make_backup() -> Response:
    """Make a backup now."""
    back = url_for("dashboard.backups")
    try:
        made = api.put("/api/db-backups")
    except Refused as refused:
        return failed(refused, back)
    if not made["created"]:
        return done(_("The newest backup holds the data as it is; no other was made."), back, "info")
    return done(_("A verified backup was made."), back)


@blueprint.get("/dashboard/backups/restore")
def restore_backup() -> Response:
    """Say what a restore does, and ask for the name of the backup."""
    return _restore_page(request.args.get("id", ""), FormState())


@blueprint.post("/dashboard/backups/restore")
def restore_backup_now() -> Response:
    """Put a backup in the place of the present data."""
    form = request.form
    wanted, typed = form.get("id", ""), form.get("name", "").strip()
    if typed != wanted:
        faults = {"name": _("is not the name of this backup")}
        state = FormState({**form.to_dict(), "encryptionKey": ""}, faults, _("The name is not right."))
        return _restore_page(wanted, state, 400)
    body: dict[str, Any] = {"backupId": wanted, "replaceAccess": "replaceAccess" in form}
    if form.get("encryptionKey", "").strip():
        body["encryptionKey"] = form["encryptionKey"].strip()
    try:
        found = api.post("/api/db-backups", body)
    except Refused as refused:
        state = FormState.typed(form, refused)
        kept = {name: value for name, value in state.values.items() if name != "encryptionKey"}
        return _restore_page(wanted, FormState(kept, state.faults, state.message, state.code), 400)
    return done(_said_of(_("The backup is in force."), found), url_for("dashboard.backups"))


@blueprint.post("/dashboard/backups/delete")
def delete_backup() -> Response:
    """Delete a backup."""
    back = url_for("dashboard.backups")
    try:
        api.delete(f"/api/db-backups/{api.segment(request.form.get('id', ''))}")
    except Refused as refused:
        return failed(refused, back)
    return done(_("The backup is deleted."), back)


@blueprint.post("/dashboard/backups/rules")
def save_backup_rules() -> Response:
    """Choose when backups are made by themselves, and which are kept."""
    form = request.form
    body = {
        "schedule": form.get("schedule", "").strip() or "off",
        "keepLatest": values.number(form.get("keepLatest", "")),
        "retentionDays": values.number(form.get("retentionDays", "")),
    }
    fixed = {name for name, row in _rules().items() if row["fixedBy"] is not None}
    try:
        api.patch("/api/db-backups", {name: value for name, value in body.items() if name not in fixed})
    except Refused as refused:
        return _backups_page(400, rules=FormState.typed(form, refused))
    return done(_("The rules are saved."), url_for("dashboard.backups", _anchor="rules"))


@blueprint.post("/dashboard/backups/clean-up")
def clean_up_backups() -> Response:
    """Delete what the rules no longer keep."""
    back = url_for("dashboard.backups")
    try:
        gone = api.delete("/api/db-backups")["deleted"]
    except Refused as refused:
        return failed(refused, back)
    return done(ngettext("%(num)s backup was deleted.", "%(num)s backups were deleted.", gone), back)


@blueprint.post("/dashboard/backups/import")
def import_backup() -> Response:
    """Put the data of a file in the place of the present data."""
    file = request.files.get("file")
    if file is None or not file.filename:
        form = FormState(faults={"file": _("is required")}, message=_("No file was chosen."))
        return _backups_page(400, brought=form)
    key = request.form.get("encryptionKey", "").strip()
    try:
        fields = {"encryptionKey": key} if key else {}
        found = api.upload("/api/db-backups/import", file.stream, file.filename, fields)
    except Refused as refused:
        form = FormState(faults={"file": refused.message}, message=refused.message, code=refused.error_code)
        return _backups_page(400, brought=form, checks=_checked(refused.details.get("check")))
    return _backups_page(imported=found)


def _backups_page(
    status: int = 200,
    *,
    rules: FormState | None = None,
    brought: FormState | None = None,
    checks: list[tuple[str, str]] | None = None,
    imported: dict[str, Any] | None = None,
) -> Response:
    offset = values.number(request.args.get("offset", "0"))
    start = offset if isinstance(offset, int) and offset >= 0 else 0
    found = api.get("/api/db-backups", limit=_PAGE, offset=start, sort=request.args.get("sort"))
    return page(
        "dashboard/backups.html",
        found=found,
        policy=found["policy"],
        reasons=_REASONS,
        rows=_rules(),
        rules=rules or FormState.of(found["policy"]),
        brought=brought or FormState(),
        checks=checks,
        imported=imported,
        status=status,
    )


def _restore_page(backup_id: str, form: FormState, status: int = 200) -> Response:
    listed = api.get("/api/db-backups", q=backup_id, limit=_PAGE)["backups"]
    backup = next((one for one in listed if one["id"] == backup_id), None)
    if backup is None:
        raise NotFound("There is no such backup.")
    return page("dashboard/backup_restore.html", backup=backup, reasons=_REASONS, form=form, status=status)


def _rules() -> dict[str, dict[str, Any]]:
    """Return the settings that the rules are, by the names of the rules."""
    rows = values.rows_of(api.get("/api/settings/fields", q="advanced.backup")["fields"])
    return {name: rows[setting] for name, setting in _RULES.items()}


def _checked(refused: str | None) -> list[tuple[str, str]] | None:
    """Return the checks of a file with what came of each: `good`, `bad`, or `off` for those not reached."""
    names = [name for name, _label in _CHECKS]
    if refused not in names:
        return None
    at = names.index(refused)
    return [
        (str(label), "good" if place < at else "bad" if place == at else "off")
        for place, (_name, label) in enumerate(_CHECKS)
    ]


def _said_of(done_text: str, found: dict[str, Any]) -> str:
    """Say what a database holds now, and which backup leads back."""
    holds = _(
        "It holds %(connections)s connections, %(combos)s combos and %(keys)s API keys.",
        connections=found["connectionCount"],
        combos=found["comboCount"],
        keys=found["apiKeyCount"],
    )
    parts = [done_text, holds]
    if found["credentialsUnreadable"]:
        count = found["credentialsUnreadable"]
        parts.append(ngettext("%(num)s credential cannot be read.", "%(num)s credentials cannot be read.", count))
    if found["safetyBackup"] is not None:
        parts.append(_("What was there before is in the backup %(name)s.", name=found["safetyBackup"]["id"]))
    return " ".join(parts)
