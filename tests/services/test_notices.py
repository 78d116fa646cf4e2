"""What an operator is told: jobs that fail or are late, providers that fail, spending out of the ordinary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omniroute.money.tariff import NANO
from omniroute.records import RequestRecord
from omniroute.routing.marks import Kind
from omniroute.routing.view import BreakerState
from omniroute.services.notices import (
    BACKLOG_BYTES,
    SpendingWatch,
    directory_bytes,
    of_breakers,
    of_jobs,
    of_spool,
    usual_spending,
)
from omniroute.services.resilience_state import ResilienceState, Resting, Tripped, Why
from tests.harness import NOW, Gateway

HOUR_S = 3600


def run(name: str = "backup", last_success: float | None = NOW, error: str | None = None) -> dict[str, Any]:
    return {"name": name, "lastStartAt": NOW, "lastSuccessAt": last_success, "lastError": error}


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (run(), None),
        (run(last_success=NOW - 3 * HOUR_S), None),
        (run(last_success=NOW - 4 * HOUR_S), "job_late"),
        (run(error="StorageError"), "backup_failed"),
        (run("retention", error="StorageError"), "job_failed"),
        (run("gone", error="StorageError"), None),
        (run(last_success=None), None),
    ],
)
def test_jobs(job: dict[str, Any], code: str | None) -> None:
    found = list(of_jobs([job], {"backup": HOUR_S, "retention": HOUR_S}, NOW, NOW - 86_400))
    assert [notice.code for notice in found] == ([code] if code else [])
    assert all(notice.is_failure for notice in found)


def test_a_server_that_has_just_started_has_no_late_jobs() -> None:
    assert list(of_jobs([run(last_success=NOW - 10 * 86_400)], {"backup": HOUR_S}, NOW, NOW - 60)) == []


def tripped(provider: str, opened_at: float | None) -> Tripped:
    state = BreakerState.OPEN if opened_at else BreakerState.CLOSED
    return Tripped((f"provider:{provider}", Kind.BREAKER), provider, state, False, 5, 1, opened_at, None, Why())


def test_providers_that_fail() -> None:
    state = ResilienceState(
        breakers=[tripped("groq", NOW), tripped("openai", None)],
        dead=[Resting(("connection:c", Kind.DEAD), Kind.DEAD, "conn_1", "Main", "groq", Why("auth"))],
    )
    found = list(of_breakers(state))
    assert [notice.code for notice in found] == ["provider_down", "credential_refused"]
    assert "groq" in found[0].message
    assert "Fast one" in next(of_breakers(state, {"groq": "Fast one"})).message
    assert "openai" not in found[0].message
    assert "Main" in found[1].message
    assert list(of_breakers(ResilienceState())) == []
    many = list(of_breakers(ResilienceState(breakers=[tripped(f"p{n}", NOW) for n in range(5)])))
    assert "and 2 more" in many[0].message


def test_a_backlog(tmp_path: Path) -> None:
    assert of_spool(tmp_path / "none") is None
    (tmp_path / "one").write_bytes(b"x" * 100)
    assert directory_bytes(tmp_path) == 100
    assert of_spool(tmp_path) is None
    with (tmp_path / "two").open("wb") as file:
        file.truncate(BACKLOG_BYTES)
    notice = of_spool(tmp_path)
    assert notice is not None
    assert (notice.code, notice.is_failure) == ("spool_backlog", True)


@pytest.mark.parametrize(
    ("hours", "usual"),
    [([], None), ([5] * 11, None), ([5] * 12, 5), ([0] * 100 + [5] * 11, None), (list(range(1, 101)), 96)],
)
def test_what_is_usual(hours: list[int], usual: int | None) -> None:
    assert usual_spending(hours) == usual


def spend(gateway: Gateway, key: str, by_hour: dict[int, float]) -> None:
    records = []
    for age, usd in by_hour.items():
        at = NOW - age * HOUR_S
        made = RequestRecord(f"req_{key}_{age}", at, "/v1/x", "openai-chat", "m", status=200, outcome="success")
        made.api_key_id, made.provider, made.model = key, "groq", "m"
        made.cost_nano_usd, made.cost_kind = int(usd * NANO), "billed"
        records.append(made)
    gateway.log_requests(records)


def watch(gateway: Gateway) -> SpendingWatch:
    return SpendingWatch(database=gateway.database, snapshot=lambda: gateway.snapshots.current, now=gateway.clock)


@pytest.mark.parametrize(
    ("now_usd", "hours", "is_told"),
    [(3.2, 20, True), (2.9, 20, False), (3.2, 5, False), (0.0, 20, False)],
)
def test_spending_out_of_the_ordinary(gateway: Gateway, now_usd: float, hours: int, is_told: bool) -> None:
    key = gateway.issue("laptop").key
    spend(gateway, key.id, {**dict.fromkeys(range(2, hours + 2), 1.0), 0: now_usd})
    found = watch(gateway).notices()
    assert [notice.code for notice in found] == (["unusual_spend"] if is_told else [])
    if is_told:
        assert "laptop" in found[0].message
        assert not found[0].is_failure


def test_cents_are_nothing_unusual(gateway: Gateway) -> None:
    spend(gateway, "local", {**dict.fromkeys(range(2, 30), 0.001), 0: 0.05})
    assert watch(gateway).notices() == ()


def test_it_is_looked_at_once_a_minute(gateway: Gateway) -> None:
    watching = watch(gateway)
    spend(gateway, "local", dict.fromkeys(range(2, 30), 1.0))
    assert watching.notices() == ()
    spend(gateway, "local", {0: 9.0})
    assert watching.notices() == ()
    gateway.clock.pass_(60)
    assert len(watching.notices()) == 1
