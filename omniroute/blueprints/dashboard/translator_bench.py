"""The test bench: every case in every client format of every target, as a matrix with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import request, url_for
from flask_babel import LazyString
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, model_names
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import go, page

CASES: Final[Mapping[str, LazyString]] = {
    "text": _l("Text"),
    "system": _l("System prompt"),
    "tools": _l("Tools"),
    "parallel_tools": _l("Parallel tools"),
    "image": _l("Picture"),
    "thinking": _l("Reasoning"),
    "json_schema": _l("JSON schema"),
    "stream": _l("Stream"),
    "error": _l("Error"),
}
_KIND: Final = "translator-bench"
_ENDED: Final = ("succeeded", "failed")
_NAMES: Final = {"providers": "models"}


def show() -> Response:
    """Show the form, and the run that is asked for or the last one."""
    return _page(FormState())


def start() -> Response:
    """Start a run; one that asks providers says first what it may cost."""
    form, body = request.form, _asked()
    is_confirmed = form.get("do") == "confirmed" or not body["live"]
    try:
        made = api.post("/api/translator/bench", body | {"estimateOnly": not is_confirmed})
    except Refused as refused:
        return _page(FormState.typed(form, refused, _NAMES), status=400)
    if not is_confirmed:
        return _page(FormState.typed(form), estimate=made)
    return go(url_for("dashboard.translator", tab="bench", job=made["jobId"]))


def _asked() -> dict[str, Any]:
    form = request.form
    models = [name.strip() for name in form.get("models", "").replace(",", "\n").splitlines() if name.strip()]
    return {
        "cases": form.getlist("cases"),
        "formats": form.getlist("formats"),
        "targets": form.getlist("targets"),
        "providers": models,
        "live": form.get("live") == "true",
    }


def _page(form: FormState, *, estimate: dict[str, Any] | None = None, status: int = 200) -> Response:
    formats = api.get("/api/translator/formats")["formats"]
    job = _job()
    result = job["result"] if job is not None else None
    return page(
        "dashboard/translator_bench.html",
        blocks=("run",),
        status=status,
        tab="bench",
        form=form,
        formats={one["id"]: one["name"] for one in formats},
        cases=CASES,
        models=model_names.offered(),
        estimate=estimate,
        job=job,
        is_done=job is not None and job["state"] in _ENDED,
        matrices=_matrices(result["cells"]) if result else [],
        cell=_cell(result["cells"]) if result else None,
    )


def _job() -> dict[str, Any] | None:
    job_id = request.args.get("job")
    if job_id:
        found: dict[str, Any] = api.get(f"/api/jobs/{api.segment(job_id)}")
        return found if found["kind"] == _KIND else None
    jobs = api.get("/api/jobs", kind=_KIND, sort="-createdAt", limit=1)["jobs"]
    return jobs[0] if jobs else None


def _matrices(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a matrix of formats and cases per target, each cell with its number."""
    found: dict[str, dict[str, Any]] = {}
    for number, cell in enumerate(cells):
        matrix = found.setdefault(cell["target"], {"target": cell["target"], "formats": {}, "rows": {}, "ok": 0})
        matrix["formats"][cell["format"]] = None
        matrix["rows"].setdefault(cell["case"], {})[cell["format"]] = cell | {"number": number}
        matrix["ok"] += cell["state"] == "ok"
    return list(found.values())


def _cell(cells: list[dict[str, Any]]) -> dict[str, Any] | None:
    wanted = request.args.get("cell", "")
    is_there = wanted.isascii() and wanted.isdigit() and len(wanted) < 6 and int(wanted) < len(cells)
    return cells[int(wanted)] if is_there else None
