"""One combo: how its targets stand and did, what was decided lately, a test of each, and the fire drill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, charts
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.combo_words import STRATEGIES, kind_of, reason_words
from omniroute.blueprints.dashboard.rendering import done, failed, page

_RECENT: Final = 50
_NO_METRICS: Final[Mapping[str, Any]] = {"requests": 0, "success": 0, "fallbackRate": None, "targets": []}


@blueprint.get("/dashboard/combos/<combo_id>")
def combo(combo_id: str) -> Response:
    """Show a combo, and the drill that the address asks for."""
    return _page(_stored(combo_id))


@blueprint.post("/dashboard/combos/<combo_id>/test")
def test_combo(combo_id: str) -> Response:
    """Make a small call to each target and show what came back."""
    try:
        found = api.post("/api/combos/test", {"id": combo_id})
    except Refused as refused:
        return failed(refused, url_for("dashboard.combo", combo_id=combo_id))
    return _page(_stored(combo_id), test=found)


@blueprint.post("/dashboard/combos/<combo_id>/reset")
def reset_combo(combo_id: str) -> Response:
    """Let the figures of a combo begin now."""
    back = url_for("dashboard.combo", combo_id=combo_id)
    try:
        api.call("DELETE", "/api/combos/metrics", query={"combo": combo_id})
    except Refused as refused:
        return failed(refused, back)
    return done(_("The figures begin now."), back)


def _stored(combo_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/api/combos/{api.segment(combo_id)}")
    return found


def _page(shown: dict[str, Any], test: dict[str, Any] | None = None) -> Response:
    rows = api.get("/api/usage/logs", combo=shown["id"], kind="request", limit=_RECENT)["logs"]
    found = api.get("/api/combos/metrics", combo=shown["id"])["metrics"]
    metrics = found[0] if found else _NO_METRICS
    usage = api.get("/api/usage/analytics", range="24h")["byCombo"]
    failing = request.args.getlist("fail")[:100]
    drill, fault = _drill(shown["name"], failing) if request.args.get("drill") else (None, "")
    return page(
        "dashboard/combo.html",
        blocks=("combo_now",),
        combo=shown,
        metrics=metrics,
        by_target=_by_target(metrics),
        rows=rows,
        median=median(row["durationMs"] for row in rows) if rows else None,
        cost=next((one["costUsd"] for one in usage if one["comboId"] == shown["id"]), None),
        test=test,
        strategies=STRATEGIES,
        reason_words=reason_words,
        kind_of=kind_of,
        colour_of=charts.colour_of,
        drill=drill,
        drill_fault=fault,
        failing=failing,
        drill_targets=list(dict.fromkeys(one["model"] for one in shown["targets"] if one["connections"])),
        drill_providers=_providers(shown["targets"]),
        **_shares(metrics),
        **_attempts(rows),
    )


def _providers(targets: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the providers behind targets, by the prefix of their models: an own endpoint has no better name."""
    found = {one["provider"]: one["model"].partition("/")[0] for one in targets if one["connections"]}
    return sorted(((provider, prefix) for provider, prefix in found.items() if provider), key=lambda pair: pair[1])


def _by_target(metrics: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    """Return the sums by step and model, and by model alone for those without a step."""
    found: dict[Any, dict[str, Any]] = {}
    for one in metrics["targets"]:
        found[one["stepId"], one["model"]] = one
        found.setdefault(one["model"], one)
    return found


def _shares(metrics: Mapping[str, Any]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for one in metrics["targets"]:
        counts[one["model"] or _("none")] += one["requests"]
    total = sum(counts.values())
    shares = [(name, count, count / total) for name, count in counts.most_common() if total]
    chart = charts.stacked([(name, share) for name, _count, share in shares], _("Share of traffic by target"))
    return {"shares": shares, "share_chart": chart}


def _attempts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many attempts the last requests needed, the oldest first."""
    counts = [row["attempts"] for row in reversed(rows)]
    bad = [row["attempts"] if row["outcome"] not in ("success", "cancelled") else 0 for row in reversed(rows)]
    chart = charts.bars(counts, _("Attempts of the last requests"), bad=bad, is_wide=True) if any(counts) else ""
    return {"attempts_chart": chart, "attempts_table": sorted(Counter(counts).items())}


def _drill(name: str, failing: list[str]) -> tuple[dict[str, Any] | None, str]:
    """Plan a request while some are taken to fail; else say why that cannot be planned."""
    try:
        found: dict[str, Any] = api.post(
            "/api/routing/simulate", {"model": f"combo/{name}", "assume": {"failing": failing}}
        )
    except Refused as refused:
        return None, "; ".join(refused.faults.values()) or refused.message
    return found, ""
