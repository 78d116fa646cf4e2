"""Providers: what is connected and how it does, what can be connected, and the results of tests and imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_states
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.provider_states import GROUPS, SANDBOX
from omniroute.blueprints.dashboard.rendering import failed, go, page

_FILTERS: Final = ("connected", "failing", "free")
_OFFERED: Final = 9
"""Providers of a group that the list offers; the catalogue has all."""
_PER_PAGE: Final = 48
_LONGEST_SEARCH: Final = 100
_MOST_NODES: Final = 200
_FREE: Final = frozenset({"free", "local"})


@blueprint.get("/dashboard/providers")
def providers() -> Response:
    """Show what is connected, by group, and a part of what can be."""
    wanted, chosen = _searched(), request.args.get("filter", "")
    chosen = chosen if chosen in _FILTERS else ""
    rows = [row for row in provider_states.catalogue() if _holds(row, wanted)]
    tiles = _tiles(rows)
    shown = [tile for tile in tiles if _is_chosen(tile, chosen)]
    return page(
        "dashboard/providers.html",
        blocks=("tiles",),
        wanted=wanted,
        chosen=chosen,
        sections=_by_group(shown),
        counts={"connected": len(tiles), **{name: sum(_is_chosen(t, name) for t in tiles) for name in _FILTERS[1:]}},
        offered=_offered(rows, chosen),
        groups=GROUPS,
        connected=len(tiles),
    )


@blueprint.get("/dashboard/providers/add")
def provider_catalogue() -> Response:
    """Show the providers that can be connected."""
    wanted, group = _searched(), request.args.get("group", "")
    rows = [row for row in provider_states.catalogue() if not row["isNode"] and _holds(row, wanted)]
    counts = {name: sum(provider_states.group_of(row) == name for row in rows) for name in GROUPS}
    found = [row for row in rows if group not in GROUPS or provider_states.group_of(row) == group]
    found.sort(key=lambda row: (bool(provider_states.obstacle(row)), row["name"].casefold()))
    offset = min(request.args.get("offset", 0, type=int) or 0, max(0, len(found) - 1))
    cards = [_card(row) for row in found[max(0, offset) : max(0, offset) + _PER_PAGE]]
    return page(
        "dashboard/provider_catalogue.html",
        blocks=("found",),
        wanted=wanted,
        group=group,
        groups=GROUPS,
        counts=counts,
        all_count=len(rows),
        cards=cards,
        total=len(found),
        limit=_PER_PAGE,
        offset=max(0, offset),
    )


@blueprint.post("/dashboard/providers/test")
def test_providers() -> Response:
    """Test the connections of a provider, or all, and lead on to how that goes."""
    provider = request.form.get("provider", "")
    try:
        job = api.post("/api/providers/test-batch", {"provider": provider} if provider else {})
    except Refused as refused:
        return failed(refused, url_for("dashboard.providers"))
    return go(url_for("dashboard.provider_job", job_id=job["jobId"], provider=provider or None))


@blueprint.get("/dashboard/providers/jobs/<job_id>")
def provider_job(job_id: str) -> Response:
    """Show how far a test or an import is, and what it found."""
    job = api.get(f"/api/jobs/{api.segment(job_id)}")
    provider = request.args.get("provider", "")
    return page(
        "dashboard/provider_job.html",
        blocks=("job",),
        job=job,
        endpoints={one["id"]: one["name"] for one in api.get("/api/provider-nodes", limit=_MOST_NODES)["nodes"]},
        title={
            "provider-test": _("Test of connections"),
            "provider-import": _("Import of keys"),
            "model-test": _("Test of models"),
        }.get(job["kind"], job["kind"]),
        back=url_for("dashboard.provider", provider=provider) if provider else url_for("dashboard.providers"),
    )


def _searched() -> str:
    return request.args.get("q", "").strip()[:_LONGEST_SEARCH]


def _holds(row: Mapping[str, Any], wanted: str) -> bool:
    names = (row["id"], row["alias"], row["name"], *row["aliases"])
    return wanted.casefold() in " ".join(names).casefold()


def _tiles(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the list shows of each provider that is connected."""
    connections = provider_states.by_provider(provider_states.all_of("/api/providers", "connections"))
    open_breakers = provider_states.breakers()
    return [
        {
            "provider": row,
            "group": provider_states.group_of(row),
            "state": provider_states.state_of(row, connections.get(row["id"], ()), open_breakers),
        }
        for row in rows
        if row["configured"] or row["isNode"]
    ]


def _is_chosen(tile: Mapping[str, Any], chosen: str) -> bool:
    match chosen:
        case "failing":
            return bool(tile["state"].is_failing)
        case "free":
            return tile["provider"]["tier"] in _FREE
        case _:
            return True


def _by_group(tiles: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in GROUPS}
    for tile in tiles:
        found[tile["group"]].append(tile)
    return [(name, rows) for name, rows in found.items() if rows]


def _offered(rows: Iterable[Mapping[str, Any]], chosen: str) -> list[dict[str, Any]]:
    """Return by group the first of those that are not connected and could be, and how many there are."""
    if chosen in ("connected", "failing"):
        return []
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUPS}
    for row in rows:
        is_new = not row["configured"] and not row["isNode"]
        if is_new and (not chosen or row["tier"] in _FREE):
            found[provider_states.group_of(row)].append(_card(row))
    return [
        {
            "name": name,
            "total": len(cards),
            "cards": sorted(cards, key=lambda card: bool(card["obstacle"]))[:_OFFERED],
        }
        for name, cards in found.items()
        if cards
    ]


def _card(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "provider": row,
        "obstacle": provider_states.obstacle(row),
        "group": provider_states.group_of(row),
        "is_connected": row["configured"] or row["id"] == SANDBOX,
    }
