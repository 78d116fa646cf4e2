"""Importing prices: from the package, and from a public list over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pytest

from omniroute.errors import Conflict, UpstreamError, UrlBlocked
from omniroute.gateway.egress import Egress
from omniroute.records import RequestRecord
from omniroute.services.keys import SYSTEM
from omniroute.services.price_sync import PriceSync, Source, read_in_child
from omniroute.services.prices import Change
from omniroute.settings import PRICE_LIST_URL, Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import FakeUpstream, answer, fake_upstream
from tests.harness import NOW, Clock

LISTED = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "x",
        "models": [
            {"id": "gpt-4.1", "match": {"equals": "gpt-4.1"}, "prices": {"input_mtok": 7, "output_mtok": 8}},
            {"id": "gpt-99", "match": {"equals": "gpt-99"}, "prices": {"input_mtok": 9, "output_mtok": 9}},
        ],
    }
]


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@contextmanager
def with_list(settings: Settings, *acts: Any) -> Iterator[tuple[App, FakeUpstream]]:
    with fake_upstream(*acts) as upstream:
        changes = {"pricing_sync_enabled": True, "pricing_sync_url": f"{upstream.url}/data.json"}
        with whole_app(settings, **changes) as app:
            yield app, upstream


def told(rows: list[dict[str, Any]], version: str = "1.0") -> Any:
    """A reader that always finds the same, and remembers what it was asked."""

    def read(pairs: Any, at: float, listed: bytes) -> Mapping[str, Any]:
        read.asked.append((list(pairs), at, listed))  # type: ignore[attr-defined]
        return {"version": version, "rows": rows}

    read.asked = []  # type: ignore[attr-defined]
    return read


def sync_of(app: App, read: Any, clock: Clock | None = None) -> PriceSync:
    return PriceSync(
        settings=lambda: app.own.settings,
        database=app.own.database,
        directories=app.own.directories,
        prices=app.own.prices,
        transport=app.own.transport,
        audit=app.own.audit,
        now=clock or Clock(),
        monotonic=Clock(0.0),
        read=read,
    )


def row(model: str = "new-1", provider: str = "groq", **prices: Any) -> dict[str, Any]:
    return {"provider": provider, "model": model, "note": "genai-prices: x", "input": "1", "output": "2", **prices}


def used(app: App, provider: str, model: str, at: float) -> None:
    app.own.request_log.put(
        RequestRecord(f"req_{model}", at, "/v1/x", "openai_chat", "m", 200, "success", None, model, provider)
    )
    app.own.request_log.flush()


def price_of(app: App, provider: str, model: str) -> tuple[str, str | None] | None:
    found = app.own.directories.current.prices.row(provider, model)
    return None if found is None else (found.source, found.input)


# --- from the package ----------------------------------------------------------------------------------------------


def test_the_package_prices_what_is_built_in_without_a_price(app: App) -> None:
    found = app.own.price_sync.run(SYSTEM)

    assert found.source is Source.PACKAGE
    assert len(found.changed) == len(found.rows) > 20
    assert price_of(app, "modal", "moonshotai/Kimi-K3") == ("import", "3")
    assert price_of(app, "openai", "gpt-4.1") == ("builtin", "2"), "what is built in is left alone"
    (entry,), _ = app.own.audit.entries(limit=10, action="pricing.changed")
    assert entry.details["imported"] == len(found.rows)
    assert app.own.price_sync.run(SYSTEM).changed == (), "the same list changes nothing"


def test_the_package_is_asked_about_what_lacks_a_price_alone(app: App) -> None:
    used(app, "openai", "gpt-99", NOW)
    used(app, "openai", "gpt-4.1", NOW)
    used(app, "node_gone", "x", NOW)
    app.own.prices._now = Clock()
    read = told([])

    sync_of(app, read).run(SYSTEM)

    ((pairs, at, listed),) = read.asked
    assert (at, listed) == (NOW, b"")
    assert ("openai", "gpt-99") in pairs
    assert ("modal", "moonshotai/Kimi-K3") in pairs
    assert ("openai", "gpt-4.1") not in pairs
    assert ("node_gone", "x") not in pairs


def test_an_import_runs_once_for_each_version_and_for_what_is_used_meanwhile(app: App) -> None:
    app.own.prices._now = Clock()
    read = told([row()], version=version("genai-prices"))
    sync = sync_of(app, read)
    sync.run_if_due()
    sync.run_if_due()
    assert len(read.asked) == 1
    used(app, "openai", "gpt-99", NOW)
    sync.run_if_due()
    sync.run_if_due()
    assert len(read.asked) == 2


def test_another_version_is_imported_again(app: App) -> None:
    read = told([row()], version="0.0.1")
    sync = sync_of(app, read)
    sync.run_if_due()
    sync.run_if_due()
    assert len(read.asked) == 2


def test_an_import_takes_the_place_of_the_one_before(app: App) -> None:
    clock = Clock()
    first = sync_of(app, told([row("a"), row("b")]), clock).run(SYSTEM)
    assert {changed.model for changed in first.changed} == {"a", "b"}
    clock.pass_(10)
    second = sync_of(app, told([row("a"), row("c", input="3")]), clock).run(SYSTEM)
    assert {changed.model for changed in second.changed} == {"b", "c"}
    assert price_of(app, "groq", "b") is None
    kept = app.own.directories.current.prices.row("groq", "a")
    assert kept is not None
    assert kept.valid_from == NOW, "it has not changed"


def test_what_the_operator_has_set_stays(app: App) -> None:
    app.own.prices.change([Change("groq", "new-1", {"input": "5"})], SYSTEM)

    sync_of(app, told([row()])).run(SYSTEM)

    assert price_of(app, "groq", "new-1") == ("override", "5")
    assert app.own.directories.current.prices.row("groq", "new-1").output == "2"  # type: ignore[union-attr]
    app.own.prices.reset("groq", "new-1", SYSTEM)
    assert price_of(app, "groq", "new-1") == ("import", "1")


def test_a_dry_run_changes_nothing(app: App) -> None:
    found = sync_of(app, told([row()])).run(SYSTEM, is_dry_run=True)

    assert [changed.model for changed in found.changed] == ["new-1"]
    assert found.is_dry_run
    assert price_of(app, "groq", "new-1") is None
    assert app.own.price_sync.state()["at"] is None
    assert app.own.audit.entries(limit=10, action="pricing.changed")[1] == 0


def test_rows_that_are_no_prices_are_left_out(app: App) -> None:
    found = sync_of(app, told([row("a", input="-1"), row("b", input="x"), row("c")])).run(SYSTEM)

    assert [kept.model for kept in found.rows] == ["c"]


@pytest.mark.parametrize(
    "fails",
    [
        lambda *_: {},
        lambda *_: {"version": "1", "rows": 3},
        lambda *_: {"version": "1", "rows": [{"model": "x"}]},
        lambda *_: {"version": "1", "rows": [row(tiers=[{"over": 5}])]},
        lambda *_: (_ for _ in ()).throw(OSError("no process")),
        lambda *_: (_ for _ in ()).throw(ValueError("no answer")),
    ],
)
def test_a_failed_import_keeps_what_was_imported_and_is_told(app: App, fails: Any) -> None:
    sync_of(app, told([row()])).run(SYSTEM)

    with pytest.raises(UpstreamError, match="cannot be read"):
        sync_of(app, fails).run(SYSTEM)

    assert price_of(app, "groq", "new-1") == ("import", "1")
    state = app.own.price_sync.state()
    assert (state["imported"], state["at"]) == (1, NOW)
    assert state["error"] == {"at": NOW, "source": "package", "message": "The price list cannot be read."}
    sync_of(app, told([row()])).run(SYSTEM)
    assert app.own.price_sync.state()["error"] is None


def test_the_process_that_reads() -> None:
    found = read_in_child([("openai", "gpt-99"), ("openai", "nothing")], NOW, json.dumps(LISTED).encode())

    assert [(one["model"], one["input"]) for one in found["rows"]] == [("gpt-99", "9")]
    with pytest.raises(ValueError, match="CalledProcessError"):
        read_in_child([("openai", "gpt-99")], NOW, b'null, "pairs": []')


# --- from a public list --------------------------------------------------------------------------------------------


def test_a_public_list_says_what_differs_from_what_is_built_in(settings: Settings) -> None:
    with with_list(settings, answer(json.dumps(LISTED).encode())) as (app, upstream):
        used(app, "openai", "gpt-99", app.own.prices._now())
        found = app.own.price_sync.run(SYSTEM)

        assert found.source is Source.LIST
        assert price_of(app, "openai", "gpt-4.1") == ("import", "7")
        stored = {kept.model: kept for kept in found.rows}
        assert stored["gpt-4.1"].output is None, "built in like that"
        assert price_of(app, "openai", "gpt-99") == ("import", "9")
        (request,) = upstream.received
        assert request.head.startswith(b"GET /data.json ")
        assert "authorization" not in request.headers


def test_the_public_list_is_fetched_after_its_interval(settings: Settings) -> None:
    with with_list(settings, answer(json.dumps(LISTED).encode())) as (app, upstream):
        clock = Clock()
        sync = sync_of(app, told([row()]), clock)
        sync.run_if_due()
        clock.pass_(86_399)
        sync.run_if_due()
        assert len(upstream.received) == 1
        clock.pass_(1)
        sync.run_if_due()
        assert len(upstream.received) == 2


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (answer(b"no", status=503), "answered with status 503"),
        (answer(b"", status=302, headers={"Location": "http://169.254.169.254/"}), "answered with status 302"),
        (answer(b"not json"), "cannot be read"),
        (answer(b"{}"), "cannot be read"),
        (answer(b"[]"), "has no price of a model"),
        (answer(b"["), "cannot be read"),
        (answer(b"x" * ((16 << 20) + 1)), "is too large"),
    ],
)
def test_what_is_no_list_is_refused_and_changes_nothing(settings: Settings, act: Any, message: str) -> None:
    with with_list(settings, act) as (app, _):
        response = app.admin.post("/api/pricing/sync")

        assert response.status_code == 502
        assert message in error_of(response)["message"]
        state = app.admin.get("/api/pricing/sync").get_json()
        assert (state["imported"], state["at"]) == (0, None)
        assert message in state["error"]["message"]
        assert state["error"]["at"].endswith("Z")


def test_the_public_list_passes_the_guard(settings: Settings) -> None:
    changes = {"pricing_sync_enabled": True, "pricing_sync_url": "http://169.254.169.254/data.json"}
    with whole_app(settings, **changes) as app, pytest.raises(UrlBlocked):
        app.own.price_sync.run(SYSTEM)


def test_the_address_of_the_list_passes_the_guard(settings: Settings) -> None:
    assert Egress(settings).check_url(PRICE_LIST_URL).scheme == "https"


# --- over HTTP -----------------------------------------------------------------------------------------------------


def test_sync_over_http(app: App) -> None:
    state = app.admin.get("/api/pricing/sync").get_json()
    assert (state["enabled"], state["url"], state["at"], state["imported"]) == (False, None, None, 0)
    dry = app.admin.post("/api/pricing/sync", json={"dryRun": True}).get_json()
    assert (dry["dryRun"], dry["source"]) == (True, "package")
    assert app.admin.get("/api/pricing/sync").get_json() == state
    done = app.admin.post("/api/pricing/sync", json={}).get_json()
    assert (done["dryRun"], done["imported"], len(done["changed"])) == (False, dry["imported"], len(dry["changed"]))
    assert {changed["source"] for changed in done["changed"]} == {"import"}
    state = app.admin.get("/api/pricing/sync").get_json()
    assert (state["source"], state["at"], state["imported"]) == ("package", done["at"], done["imported"])
    off = app.admin.post("/api/pricing/sync", json={"source": "list"})
    assert (off.status_code, error_of(off)["code"]) == (409, "pricing_sync_disabled")
    assert app.admin.post("/api/pricing/sync", json={"source": "web"}).status_code == 400
    assert app.admin.post("/api/pricing/sync", json={"dry": True}).status_code == 400


def test_the_list_that_is_off_cannot_be_asked_for(app: App) -> None:
    with pytest.raises(Conflict):
        app.own.price_sync.run(SYSTEM, source=Source.LIST)


def test_the_leader_imports_as_a_job(app: App) -> None:
    job, interval_s = app.own.maintenance.jobs()["prices"]

    app.own.maintenance.run("prices", job)

    assert interval_s == 3600
    assert app.own.price_sync.state()["imported"] > 20
